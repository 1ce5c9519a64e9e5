// Verify reads a folder of C2SP tiles with Go's own checksum-database packages and checks every record in it:
// the checkpoint's signature, every hash tile up to the signed root, and every entry against its leaf hash.
//
//	verify FOLDER [OLDER_CHECKPOINT]
//
// With an older checkpoint it also proves that the log of then is what the log of now begins with.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

type folder string

func (f folder) Height() int { return height }

func (f folder) SaveTiles([]tlog.Tile, [][]byte) {}

func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	for i, t := range tiles {
		// Go's own path names the height; this format has only one.
		path := strings.TrimPrefix(t.Path(), fmt.Sprintf("tile/%d/", height))
		d, err := os.ReadFile(filepath.Join(string(f), "tile", path))
		if err != nil {
			return nil, err
		}
		data[i] = d
	}
	return data, nil
}

// open is the tree that the checkpoint in file signs, once its signature was verified.
func open(file string, known note.Verifiers) (tlog.Tree, error) {
	var tree tlog.Tree
	text, err := os.ReadFile(file)
	if err != nil {
		return tree, err
	}
	n, err := note.Open(text, known)
	if err != nil {
		return tree, err
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != n.Sigs[0].Name {
		return tree, fmt.Errorf("not a checkpoint of the log whose key was given")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tree, fmt.Errorf("not a root hash")
	}
	copy(tree.Hash[:], root)
	return tree, nil
}

// records checks every entry of bundle number b against the leaf hashes, which are checked against the root.
func records(f folder, tree tlog.Tree, hashes tlog.HashReader, b int64) error {
	first := b << height
	width := min(tree.N-first, 1<<height)
	indexes := make([]int64, width)
	for i := range indexes {
		indexes[i] = tlog.StoredHashIndex(0, first+int64(i))
	}
	leaves, err := hashes.ReadHashes(indexes)
	if err != nil {
		return err
	}
	tile := tlog.Tile{H: height, L: -1, N: b, W: int(width)}
	path := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/data/", height), "tile/entries/", 1)
	data, err := os.ReadFile(filepath.Join(string(f), path))
	if err != nil {
		return err
	}
	for i, leaf := range leaves {
		if len(data) < 2 || len(data) < 2+int(binary.BigEndian.Uint16(data)) {
			return fmt.Errorf("%s: cut short", path)
		}
		end := 2 + int(binary.BigEndian.Uint16(data))
		if hash := tlog.RecordHash(data[2:end]); !bytes.Equal(hash[:], leaf[:]) {
			return fmt.Errorf("entry %d is not what was hashed", first+int64(i))
		}
		data = data[end:]
	}
	if len(data) != 0 {
		return fmt.Errorf("%s: more than its entries", path)
	}
	return nil
}

func run(dir, older string) error {
	vkey, err := os.ReadFile(filepath.Join(dir, "log.vkey"))
	if err != nil {
		return err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		return err
	}
	known := note.VerifierList(verifier)
	tree, err := open(filepath.Join(dir, "checkpoint"), known)
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, folder(dir))
	if older != "" {
		old, err := open(older, known)
		if err != nil {
			return err
		}
		proof, err := tlog.ProveTree(tree.N, old.N, hashes)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
			return err
		}
	}
	for b := int64(0); b<<height < tree.N; b++ {
		if err := records(folder(dir), tree, hashes, b); err != nil {
			return err
		}
	}
	if tree.N > 0 {
		proof, err := tlog.ProveRecord(tree.N, tree.N-1, hashes)
		if err != nil {
			return err
		}
		last, err := hashes.ReadHashes([]int64{tlog.StoredHashIndex(0, tree.N-1)})
		if err != nil {
			return err
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, tree.N-1, last[0]); err != nil {
			return err
		}
	}
	fmt.Printf("verified %d entries of %s\n", tree.N, verifier.Name())
	return nil
}

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "verify FOLDER [OLDER_CHECKPOINT]")
		os.Exit(2)
	}
	older := ""
	if len(os.Args) == 3 {
		older = os.Args[2]
	}
	if err := run(os.Args[1], older); err != nil {
		fmt.Fprintln(os.Stderr, "verify:", err)
		os.Exit(1)
	}
}
