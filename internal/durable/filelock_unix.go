//go:build unix

package durable

import "os"

func lockContent(f *os.File) error { return lockFile(f) }
