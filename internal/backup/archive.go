package backup

import (
	"archive/zip"
	"compress/flate"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
	"unicode"
)

// Version is the version of the form of a backup.
const Version = 1

// manifestName is the file that names all others. It is the last one.
const manifestName = "manifest.json"

// Bounds of what is read.
const (
	maxManifest = 256 << 20
	maxFiles    = 1_000_000
	maxName     = 1000
)

// Manifest says what is in a backup. Its names are those of the design documents.
type Manifest struct {
	BackupDate    time.Time
	BackupVersion int
	// Program is the version of SealMQ that made it.
	Program    string
	Components []Component
	Files      []File
	TotalSize  int64
}

// Component is a part of a node.
type Component struct {
	Name string
	// Included says whether the backup has it, Detail what of it or why not.
	Included bool
	Detail   string `json:",omitempty"`
}

// File is a file in a backup.
type File struct {
	Name   string
	Size   int64
	SHA256 string
}

// archive is a backup that is written.
type archive struct {
	zip      *zip.Writer
	manifest Manifest
}

// Content is what a backup gets its files through.
type Content interface {
	// Add adds a file. Its name has slashes.
	Add(name string, content io.Reader) error
	// Note says of a part of the node whether it is in the backup.
	Note(c Component)
}

func newArchive(w io.Writer, program string, at time.Time) *archive {
	a := &archive{zip: zip.NewWriter(w), manifest: Manifest{BackupDate: at, BackupVersion: Version, Program: program}}
	a.zip.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	return a
}

// Add implements Content.
func (a *archive) Add(name string, content io.Reader) error {
	if err := checkName(name); err != nil {
		return err
	}
	sum := sha256.New()
	n, err := a.write(name, io.TeeReader(content, sum))
	if err != nil {
		return fmt.Errorf("back up %s: %w", name, err)
	}
	a.manifest.Files = append(a.manifest.Files, File{name, n, hex.EncodeToString(sum.Sum(nil))})
	a.manifest.TotalSize += n
	return nil
}

func (a *archive) write(name string, content io.Reader) (int64, error) {
	h := &zip.FileHeader{Name: name, Method: zip.Deflate, Modified: a.manifest.BackupDate}
	h.SetMode(0o600)
	w, err := a.zip.CreateHeader(h)
	if err != nil {
		return 0, err
	}
	return io.Copy(w, content)
}

// Note implements Content.
func (a *archive) Note(c Component) { a.manifest.Components = append(a.manifest.Components, c) }

// close ends the archive with its manifest.
func (a *archive) close() error {
	b, err := json.MarshalIndent(&a.manifest, "", "  ")
	if err == nil {
		_, err = a.write(manifestName, strings.NewReader(string(b)+"\n"))
	}
	if err != nil {
		return err
	}
	return a.zip.Close()
}

// checkName refuses names that could lead out of the folder that a backup is restored to.
func checkName(name string) error {
	odd := func(r rune) bool { return r == '\\' || unicode.IsControl(r) }
	if len(name) > maxName || !fs.ValidPath(name) || strings.ContainsFunc(name, odd) || !filepath.IsLocal(filepath.FromSlash(name)) || name == manifestName || name == "." {
		return fmt.Errorf("%q is no name for a file in a backup", name)
	}
	return nil
}
