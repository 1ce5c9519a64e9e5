module verify

go 1.24

require golang.org/x/mod v0.0.0

// The source that ships with the Go toolchain; the test puts it there.
replace golang.org/x/mod => ./mod
