//go:build !linux

package durable

// syncData is the strongest sync that the standard library knows: F_FULLFSYNC on
// macOS, FlushFileBuffers on Windows.
func syncData(f *osFile) error { return f.File.Sync() }
