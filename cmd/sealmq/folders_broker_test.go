package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// folder is a data folder, the clients' files beside it, and the broker that runs on it. It
// uses only commands and the line protocol, so it works with a program of any version.
type folder struct {
	t      *testing.T
	exe    string
	dir    string // data, client, and what the commands write
	addr   string
	broker *exec.Cmd
	out    io.ReadCloser
	chains []string // SHA-256 of the chains that are in it
}

// newFolder makes an empty folder with a new authority.
func newFolder(t *testing.T, exe string) *folder {
	f := &folder{t: t, exe: exe, dir: t.TempDir()}
	f.must("", "init")
	// The signing key of the directory's log is not in the fixture. The test derives it.
	if err := os.MkdirAll(filepath.Join(f.dir, "data", "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(f.dir, "data", "directory", "log.key"), logKey(t), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// logKey derives the signing key of the directory's log and returns it in its file format.
func logKey(t *testing.T) []byte {
	t.Helper()
	const name = "sealmq-key-directory"
	seed := sha256.Sum256([]byte("sealmq testdata/folders: the log"))
	public, err := note.NewEd25519VerifierKey(name, ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	hash := strings.Split(public, "+")[1]
	const algorithm = 1
	return fmt.Appendf(nil, "PRIVATE+KEY+%s+%s+%s\n", name, hash, base64.StdEncoding.EncodeToString(append([]byte{algorithm}, seed[:]...)))
}

func (f *folder) command(stdin string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(f.t.Context(), f.exe, args...)
	cmd.Dir, cmd.Stdin = f.dir, strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+f.dir, "SEALMQ_DATA=data", "SEALMQ_METRICS_ADDR=off", "SEALMQ_STORAGE_MIN_FREE_BYTES=0",
		"SEALMQ_STORAGE_SEGMENT_BYTES=1MiB", "SEALMQ_SERVER_MAX_LINE_BYTES=512KiB")
	if f.addr != "" {
		cmd.Env = append(cmd.Env, "SEALMQ_SERVER_ADDR="+f.addr)
	}
	return cmd
}

// must runs a command, which must succeed, and returns its standard output.
func (f *folder) must(stdin string, args ...string) string {
	f.t.Helper()
	cmd := f.command(stdin, args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		f.t.Fatalf("sealmq %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// serve starts the broker and waits until it accepts clients.
func (f *folder) serve() {
	f.t.Helper()
	f.addr = ""
	f.broker = f.command("", "serve", "broker", "--ready-json", "--addr", "127.0.0.1:0")
	log := new(bytes.Buffer)
	f.broker.Stderr = log
	out, err := f.broker.StdoutPipe()
	if err != nil {
		f.t.Fatal(err)
	}
	if err := f.broker.Start(); err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(f.kill)
	f.out = out
	line, err := bufio.NewReader(out).ReadBytes('\n')
	var ready struct{ Addr string }
	if err == nil {
		err = json.Unmarshal(line, &ready)
	}
	if err != nil {
		f.kill()
		f.t.Fatalf("the broker did not start: %v\n%s", err, log)
	}
	f.addr = ready.Addr
}

func (f *folder) kill() {
	if f.broker != nil {
		f.broker.Process.Kill()
		f.broker.Wait()
		f.broker = nil
	}
}

// stop ends the broker as Ctrl-C does.
func (f *folder) stop() {
	f.t.Helper()
	if runtime.GOOS == "windows" { // there is no such signal
		f.kill()
		return
	}
	if err := f.broker.Process.Signal(os.Interrupt); err != nil {
		f.t.Fatal(err)
	}
	if err := f.broker.Wait(); err != nil {
		f.t.Errorf("the broker ended with %v", err)
	}
	f.broker = nil
}

// authority returns the name of the folder's authority in pins files.
func (f *folder) authority() string {
	f.t.Helper()
	data, err := os.ReadFile(filepath.Join(f.dir, "data", "certs", "ca.crt"))
	if err != nil {
		f.t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		f.t.Fatal(err)
	}
	s := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "sha256:" + hex.EncodeToString(s[:])
}

// certificate loads the certificate of a name and its key.
func (f *folder) certificate(name string) tls.Certificate {
	f.t.Helper()
	path := filepath.Join(f.dir, "data", "certs", name)
	cert, err := tls.LoadX509KeyPair(path+".crt", path+".key")
	if err != nil {
		f.t.Fatal(err)
	}
	return cert
}

// lineConn speaks the line protocol and waits for the reply to each request.
type lineConn struct {
	t *testing.T
	c *tls.Conn
	r *bufio.Reader
}

// dial connects with the certificate of a name.
func (f *folder) dial(as string) *lineConn {
	f.t.Helper()
	authority, err := os.ReadFile(filepath.Join(f.dir, "data", "certs", "ca.crt"))
	if err != nil {
		f.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	c, err := tls.Dial("tcp", f.addr, &tls.Config{Certificates: []tls.Certificate{f.certificate(as)}, RootCAs: pool, ServerName: "localhost"})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	return &lineConn{f.t, c, bufio.NewReader(c)}
}

func (c *lineConn) ask(format string, args ...any) string {
	c.t.Helper()
	request := fmt.Sprintf(format, args...)
	if err := c.c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.WriteString(c.c, request+"\n"); err != nil {
		c.t.Fatal(err)
	}
	reply, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("%.100s: %v", request, err)
	}
	return strings.TrimSuffix(reply, "\n")
}

// want checks how the reply begins and returns the rest of it.
func (c *lineConn) want(begin, format string, args ...any) string {
	c.t.Helper()
	reply := c.ask(format, args...)
	rest, ok := strings.CutPrefix(reply, begin)
	if !ok {
		c.t.Fatalf("%.200s: the reply is %.200q, want %q", fmt.Sprintf(format, args...), reply, begin)
	}
	return rest
}

// object decodes a reply that is a JSON value after a word.
func (c *lineConn) object(word string, into any, format string, args ...any) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.want(word, format, args...)), into); err != nil {
		c.t.Fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

// packed lists the parts of a folder that go into a fixture, with their names there.
var packed = []struct{ part, dir string }{{"store", "data/store"}, {"client", "client"}}

// pack writes the fixture. The broker must not be running.
func (f *folder) pack(name string) {
	f.t.Helper()
	var out bytes.Buffer
	zip, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		f.t.Fatal(err)
	}
	w := tar.NewWriter(zip)
	for _, p := range packed {
		root := filepath.Join(f.dir, filepath.FromSlash(p.dir))
		err = errors.Join(err, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			head := &tar.Header{Name: p.part + "/" + filepath.ToSlash(rel), Mode: 0o600, Size: int64(len(data)), ModTime: time.Unix(0, 0)}
			if err := w.WriteHeader(head); err != nil {
				return err
			}
			_, err = w.Write(data)
			return err
		}))
	}
	if err := errors.Join(err, w.Close(), zip.Close(), os.WriteFile(name, out.Bytes(), 0o644)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *folder) unpack(name string) {
	f.t.Helper()
	file, err := os.Open(name)
	if err != nil {
		f.t.Fatal(err)
	}
	defer file.Close()
	zip, err := gzip.NewReader(file)
	if err != nil {
		f.t.Fatal(err)
	}
	r := tar.NewReader(zip)
	for {
		head, err := r.Next()
		if err == io.EOF {
			return
		}
		if err != nil {
			f.t.Fatal(err)
		}
		part, rest, _ := strings.Cut(head.Name, "/")
		i := slices.IndexFunc(packed, func(p struct{ part, dir string }) bool { return p.part == part })
		if i < 0 || !filepath.IsLocal(rest) {
			f.t.Fatalf("%s holds %s", name, head.Name)
		}
		path := filepath.Join(f.dir, filepath.FromSlash(packed[i].dir), filepath.FromSlash(rest))
		data, err := io.ReadAll(r)
		if err == nil {
			err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, data, 0o600))
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
}
