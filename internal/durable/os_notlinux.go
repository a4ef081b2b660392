//go:build !linux

package durable

// syncData is the strongest sync of the standard library: F_FULLFSYNC on macOS,
// FlushFileBuffers on Windows.
func syncData(f osFile) error { return f.File.Sync() }
