// Verify reads a folder of C2SP tiles with Go's own checksum-database packages and checks every record in it:
// the checkpoint's signature, every hash tile up to the signed root, and every entry against its leaf hash.
//
//	verify FOLDER [OLDER_CHECKPOINT]
//
// With an older checkpoint it also proves that the log of then is what the log of now begins with. The same is done with
// FOLDER/checkpoint.cosigned where it is there. Signatures of the witnesses in witness.vkeys are verified too, and counted.
package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
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

// A cosigner verifies what C2SP tlog-cosignature calls cosignature/v1: signature type 4, a time before the signature.
type cosigner struct {
	name string
	hash uint32
	key  ed25519.PublicKey
}

func (c cosigner) Name() string    { return c.name }
func (c cosigner) KeyHash() uint32 { return c.hash }

func (c cosigner) Verify(msg, sig []byte) bool {
	if len(sig) != 8+ed25519.SignatureSize {
		return false
	}
	signed := fmt.Sprintf("cosignature/v1\ntime %d\n%s", binary.BigEndian.Uint64(sig), msg)
	return ed25519.Verify(c.key, []byte(signed), sig[8:])
}

// newCosigner is the verifier of a witness's key, name+id+base64.
func newCosigner(vkey string) (note.Verifier, error) {
	name, rest, _ := strings.Cut(vkey, "+")
	id, encoded, _ := strings.Cut(rest, "+")
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(key) != 1+ed25519.PublicKeySize || key[0] != 4 {
		return nil, fmt.Errorf("not a witness's key: %q", vkey)
	}
	sum := sha256.Sum256(append([]byte(name+"\n"), key...))
	hash := binary.BigEndian.Uint32(sum[:])
	if fmt.Sprintf("%08x", hash) != id {
		return nil, fmt.Errorf("not the id of the key: %q", vkey)
	}
	return cosigner{name, hash, key[1:]}, nil
}

// verifiers are the log's own key in dir, and all that its checkpoints are opened with.
func verifiers(dir string) (note.Verifier, note.Verifiers, error) {
	vkey, err := os.ReadFile(filepath.Join(dir, "log.vkey"))
	if err != nil {
		return nil, nil, err
	}
	log, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		return nil, nil, err
	}
	known := []note.Verifier{log}
	vkeys, err := os.ReadFile(filepath.Join(dir, "witness.vkeys"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	for _, line := range strings.Fields(string(vkeys)) {
		witness, err := newCosigner(line)
		if err != nil {
			return nil, nil, err
		}
		known = append(known, witness)
	}
	return log, note.VerifierList(known...), nil
}

// open is the tree that the checkpoint in file signs, once every signature of a known key was verified, the log's own
// among them; and how many witnesses signed.
func open(file, log string, known note.Verifiers) (tlog.Tree, int, error) {
	var tree tlog.Tree
	text, err := os.ReadFile(file)
	if err != nil {
		return tree, 0, err
	}
	n, err := note.Open(text, known)
	if err != nil {
		return tree, 0, err
	}
	own := 0
	for _, sig := range n.Sigs {
		if sig.Name == log {
			own++
		}
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 4 || lines[0] != log || own != 1 {
		return tree, 0, fmt.Errorf("not a checkpoint of the log whose key was given")
	}
	if tree.N, err = strconv.ParseInt(lines[1], 10, 64); err != nil {
		return tree, 0, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tree, 0, fmt.Errorf("not a root hash")
	}
	copy(tree.Hash[:], root)
	return tree, len(n.Sigs) - own, nil
}

// begins proves that the tree begins with the one that the checkpoint in file signs.
func begins(tree tlog.Tree, hashes tlog.HashReader, file, log string, known note.Verifiers) error {
	old, seen, err := open(file, log, known)
	if err != nil {
		return err
	}
	if old.N > 0 {
		proof, err := tlog.ProveTree(tree.N, old.N, hashes)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
			return err
		}
	}
	if seen > 0 {
		fmt.Printf("%d entries were seen by %d witnesses\n", old.N, seen)
	}
	return nil
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
	verifier, known, err := verifiers(dir)
	if err != nil {
		return err
	}
	log := verifier.Name()
	tree, seen, err := open(filepath.Join(dir, "checkpoint"), log, known)
	if err != nil {
		return err
	}
	hashes := tlog.TileHashReader(tree, folder(dir))
	if older != "" {
		if err := begins(tree, hashes, older, log, known); err != nil {
			return err
		}
	}
	cosigned := filepath.Join(dir, "checkpoint.cosigned")
	if _, err := os.Stat(cosigned); err == nil {
		if err := begins(tree, hashes, cosigned, log, known); err != nil {
			return err
		}
	}
	if seen > 0 {
		fmt.Printf("%d entries were seen by %d witnesses\n", tree.N, seen)
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
	fmt.Printf("verified %d entries of %s\n", tree.N, log)
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
