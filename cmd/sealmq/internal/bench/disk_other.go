//go:build !linux

package bench

// FileSystem is not known on this system.
func FileSystem(string) (name string, inMemory bool, err error) { return "unknown", false, nil }
