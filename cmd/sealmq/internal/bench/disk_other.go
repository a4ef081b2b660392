//go:build !linux

package bench

import "os"

// FileSystem is not known here.
func FileSystem(string) (name string, inMemory bool, err error) { return "unknown", false, nil }

func dataSync(f *os.File) error { return f.Sync() }
