package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/internal/durable"
)

// stdoutName is the name of standard output in --out.
const stdoutName = "-"

// isStdout reports whether an output is standard output.
func isStdout(name string) bool {
	return name == stdoutName || name == "/dev/stdout" || name == "/dev/fd/1" || name == "/proc/self/fd/1"
}

// isStream reports whether an output is not a file that can be read again, replaced or cut:
// standard output, a device or a FIFO, also behind links. A name that does not exist will be a
// file. The error names what cannot be written to at all.
func isStream(name string) (bool, error) {
	if name == stdoutName {
		return true, nil
	}
	const maxLinks = 40
	for at, n := name, 0; n < maxLinks; n++ {
		// What stands behind these names may be a file, but then it is another program's.
		if strings.HasPrefix(at, "/proc/") || strings.HasPrefix(at, "/dev/") && !strings.HasPrefix(at, "/dev/shm/") {
			return true, nil
		}
		to, err := os.Readlink(at)
		if err != nil {
			break
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(at), to)
		}
		at = to
	}
	info, err := os.Stat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, durable.CheckLink(name)
	case err != nil:
		return false, err
	case info.IsDir():
		return false, withHint(fmt.Errorf("%s is a folder", name), "name a file in it")
	case info.Mode()&(fs.ModeDevice|fs.ModeNamedPipe) != 0:
		return true, nil
	case !info.Mode().IsRegular():
		return false, fmt.Errorf("%s is neither a file nor a device nor a FIFO", name)
	}
	return false, nil
}

// openStream opens an output for which isStream is true. Opening a FIFO waits for its reader.
func openStream(ctx context.Context, cmd *cobra.Command, name string) (io.WriteCloser, error) {
	if isStdout(name) {
		return struct {
			io.Writer
			io.Closer
		}{cmd.OutOrStdout(), io.NopCloser(nil)}, nil
	}
	var file *os.File
	opened := make(chan error, 1)
	go func() {
		var err error
		file, err = os.OpenFile(name, os.O_WRONLY|os.O_APPEND, 0)
		opened <- err
	}()
	select {
	case err := <-opened:
		return file, err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// writeOutput replaces a file in one step, or writes to a stream.
func writeOutput(cmd *cobra.Command, name string, data []byte, perm os.FileMode) error {
	stream, err := isStream(name)
	if err != nil {
		return err
	}
	if !stream {
		return durable.WriteFile(durable.OS(), name, data, perm)
	}
	w, err := openStream(cmd.Context(), cmd, name)
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	return errors.Join(err, w.Close())
}
