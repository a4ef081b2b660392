package backup

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/sealmq/sealmq/internal/durable"
)

// ErrDamaged says that a backup is not what was written.
var ErrDamaged = errors.New("the backup is damaged, or was changed")

// Reader is an open backup.
type Reader struct {
	Manifest Manifest
	file     *os.File
	zip      map[string]*zip.File
}

// Open opens a backup and checks that it has what its manifest names, and nothing else. If the
// checksum of the whole file is beside it, that is checked, too. The contents are checked when
// they are read. The caller must close it.
func Open(name string) (*Reader, error) {
	f, err := durable.OpenNow(name)
	if err != nil {
		return nil, err
	}
	r := &Reader{file: f, zip: make(map[string]*zip.File)}
	if err := r.open(name); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", name, err), f.Close())
	}
	return r, nil
}

// Close closes the backup.
func (r *Reader) Close() error { return r.file.Close() }

func (r *Reader) open(name string) error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return errors.New("it is no file")
	}
	if err := r.checkSum(name); err != nil {
		return err
	}
	z, err := zip.NewReader(r.file, info.Size())
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if len(z.File) > maxFiles {
		return fmt.Errorf("it has more than %d files", maxFiles)
	}
	var manifest *zip.File
	for _, f := range z.File {
		if f.Name == manifestName {
			manifest = f
			continue
		}
		if err := checkName(f.Name); err != nil {
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		if r.zip[f.Name] != nil || !f.Mode().IsRegular() {
			return fmt.Errorf("%w: %s is there twice, or is no file", ErrDamaged, f.Name)
		}
		r.zip[f.Name] = f
	}
	if manifest == nil {
		return fmt.Errorf("it has no %s, so it is no backup of SealMQ", manifestName)
	}
	return r.readManifest(manifest)
}

// checkSum compares the whole file with the checksum beside it.
func (r *Reader) checkSum(name string) error {
	want, _, _ := strings.Cut(note(name+sumSuffix), " ")
	if want == "" {
		return nil
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, r.file); err != nil {
		return err
	}
	if hex.EncodeToString(sum.Sum(nil)) != want {
		return fmt.Errorf("%w: it has not the checksum in %s", ErrDamaged, filepath.Base(name)+sumSuffix)
	}
	return nil
}

func (r *Reader) readManifest(f *zip.File) error {
	in, err := f.Open()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxManifest))
	if err == nil {
		err = json.Unmarshal(b, &r.Manifest)
	}
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, manifestName, err)
	}
	if r.Manifest.BackupVersion != Version {
		return fmt.Errorf("it has version %d, and this program reads %d; use the program that made it, %s", r.Manifest.BackupVersion, Version, r.Manifest.Program)
	}
	named := make(map[string]bool)
	for _, f := range r.Manifest.Files {
		if r.zip[f.Name] == nil || named[f.Name] {
			return fmt.Errorf("%w: %s is missing", ErrDamaged, f.Name)
		}
		named[f.Name] = true
	}
	if len(named) != len(r.zip) {
		return fmt.Errorf("%w: it has files that its manifest does not name", ErrDamaged)
	}
	return nil
}

// Has reports whether there is a file.
func (r *Reader) Has(name string) bool { return r.zip[name] != nil }

// Extract writes every file to the place that target names for it; empty leaves it out, but
// checks it. Folders are made, files must not exist.
func (r *Reader) Extract(target func(name string) string) error {
	for _, f := range r.Manifest.Files {
		if err := r.extract(f, target(f.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (r *Reader) extract(f File, to string) (err error) {
	in, err := r.zip[f.Name].Open()
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrDamaged, f.Name, err)
	}
	defer in.Close()
	sum := sha256.New()
	out := io.Writer(sum)
	if to != "" {
		file, err := Create(to)
		if err != nil {
			return err
		}
		defer func() {
			if err == nil {
				err = file.Sync()
			}
			err = errors.Join(err, file.Close())
		}()
		out = io.MultiWriter(file, sum)
	}
	n, err := io.Copy(out, io.LimitReader(in, f.Size+1))
	switch _, isPath := errors.AsType[*os.PathError](err); {
	case isPath: // of the disk
		return err
	case err != nil:
		return fmt.Errorf("%w: %s: %w", ErrDamaged, f.Name, err)
	case n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.SHA256:
		return fmt.Errorf("%w: %s has not the size and checksum in the manifest", ErrDamaged, f.Name)
	}
	return nil
}

// Create makes a file for its owner only, with its folder.
func Create(name string) (*os.File, error) {
	if err := durable.MkdirAll(durable.OS(), filepath.Dir(name), 0o700); err != nil {
		return nil, err
	}
	return durable.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}
