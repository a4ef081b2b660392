package faultfs

import (
	iofs "io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/sealmq/sealmq/internal/durable"
)

// FS is a file system in memory; see the package comment. All paths start at its root, also
// relative ones. It is safe for concurrent use.
type FS struct {
	mu   sync.Mutex
	root *node
	// off is closed when the power is cut; dead says the same under mu.
	off  chan struct{}
	dead bool

	counts    [kinds]int
	mutations int
	offAt     int // the mutation before which the power is cut; 0: none
	faults    []scheduled
	hook      func(Op) *Fault

	capacity int64 // 0: no limit
	used     int64 // sectors in live content, in bytes
	locks    map[*node]bool
}

var _ durable.FS = (*FS)(nil)

// New returns an empty file system: a durable root folder.
func New() *FS { return newFS(newDir()) }

func newFS(root *node) *FS {
	return &FS{root: root, off: make(chan struct{}), locks: make(map[*node]bool)}
}

// node is a file or a folder.
type node struct {
	file *fileData // nil for a folder
	// entries are what a lookup sees, disk is what a crash leaves, and pending are the
	// changes between them.
	entries, disk map[string]*node
	pending       []change
	// links and handles keep the space of a removed file in use.
	links, handles int
}

// change is one step in a folder. With newName it is a rename, with gone a removal,
// else a new entry.
type change struct {
	name, newName string
	node          *node
	gone          bool
}

func newDir() *node {
	return &node{entries: make(map[string]*node), disk: make(map[string]*node)}
}

func (n *node) isDir() bool { return n.file == nil }

func (c change) apply(m map[string]*node) {
	switch {
	case c.gone:
		if m[c.name] == c.node {
			delete(m, c.name)
		}
	case c.newName != "":
		if m[c.name] == c.node {
			delete(m, c.name)
		}
		m[c.newName] = c.node
	default:
		m[c.name] = c.node
	}
}

// change makes one change in a folder, volatile until SyncDir.
func (n *node) change(c change) {
	c.apply(n.entries)
	n.pending = append(n.pending, c)
}

func pathError(op, path string, err error) error {
	return &os.PathError{Op: op, Path: path, Err: err}
}

// split returns the elements of a path.
func split(path string) []string {
	path = filepath.ToSlash(filepath.Clean(path))
	path = strings.Trim(path[len(filepath.VolumeName(path)):], "/")
	if path == "" || path == "." {
		return nil
	}
	return strings.Split(path, "/")
}

// lookup finds a node. The caller holds the lock.
func (fs *FS) lookup(path string) (*node, error) {
	n := fs.root
	for _, elem := range split(path) {
		if !n.isDir() {
			return nil, syscall.ENOTDIR
		}
		if n = n.entries[elem]; n == nil {
			return nil, iofs.ErrNotExist
		}
	}
	return n, nil
}

// parent finds the folder of path and the last element of it.
func (fs *FS) parent(path string) (*node, string, error) {
	elems := split(path)
	if len(elems) == 0 {
		return nil, "", syscall.EINVAL
	}
	dir, err := fs.lookup(strings.Join(elems[:len(elems)-1], "/"))
	if err == nil && !dir.isDir() {
		err = syscall.ENOTDIR
	}
	return dir, elems[len(elems)-1], err
}

// peekNode looks a path up outside of an operation.
func (fs *FS) peekNode(path string) (*node, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.lookup(path)
}

const knownFlags = os.O_RDONLY | os.O_WRONLY | os.O_RDWR | os.O_CREATE | os.O_EXCL | os.O_TRUNC

// OpenFile implements durable.FS. O_APPEND and O_SYNC are refused.
func (fs *FS) OpenFile(name string, flag int, _ os.FileMode) (durable.File, error) {
	if flag&^knownFlags != 0 {
		return nil, pathError("open", name, syscall.EINVAL)
	}
	op := Op{Kind: Open, Path: name}
	_, err := fs.peekNode(name)
	switch {
	case err != nil && flag&os.O_CREATE != 0:
		op.Kind = Create
	case err == nil && flag&os.O_TRUNC != 0:
		op.Kind = Truncate
	}
	fault, err := fs.begin(op)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	defer fs.mu.Unlock()
	if fault.fails() {
		return nil, pathError("open", name, fault.Err)
	}
	dir, base, err := fs.parent(name)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	n := dir.entries[base]
	switch {
	case n == nil && flag&os.O_CREATE == 0:
		return nil, pathError("open", name, iofs.ErrNotExist)
	case n == nil:
		n = &node{file: new(fileData), links: 1}
		dir.change(change{name: base, node: n})
	case flag&os.O_CREATE != 0 && flag&os.O_EXCL != 0:
		return nil, pathError("open", name, iofs.ErrExist)
	case n.isDir():
		return nil, pathError("open", name, syscall.EISDIR)
	case flag&os.O_TRUNC != 0:
		fs.used -= int64(n.file.truncate(0)) * SectorBytes
	}
	if err := fault.result(); err != nil {
		return nil, pathError("open", name, err)
	}
	n.handles++
	return &handle{fs: fs, node: n, path: name, flag: flag}, nil
}

// Rename implements durable.FS. Both names must be in one folder.
func (fs *FS) Rename(oldName, newName string) error {
	fault, err := fs.begin(Op{Kind: Rename, Path: oldName, NewPath: newName})
	if err != nil {
		return pathError("rename", oldName, err)
	}
	defer fs.mu.Unlock()
	if fault.fails() {
		return pathError("rename", oldName, fault.Err)
	}
	if err := fs.rename(oldName, newName); err != nil {
		return pathError("rename", oldName, err)
	}
	if err := fault.result(); err != nil {
		return pathError("rename", oldName, err)
	}
	return nil
}

func (fs *FS) rename(oldName, newName string) error {
	dir, from, err := fs.parent(oldName)
	if err != nil {
		return err
	}
	newDir, to, err := fs.parent(newName)
	if err != nil {
		return err
	}
	n, target := dir.entries[from], newDir.entries[to]
	switch {
	case n == nil:
		return iofs.ErrNotExist
	case dir != newDir:
		return syscall.EXDEV
	case target != nil && (target.isDir() || n.isDir()):
		return syscall.EEXIST // like os.Rename, which never replaces a folder
	case n == target:
		return nil
	}
	dir.change(change{name: from, newName: to, node: n})
	if target != nil {
		fs.unlink(target)
	}
	return nil
}

// Remove implements durable.FS.
func (fs *FS) Remove(name string) error {
	fault, err := fs.begin(Op{Kind: Remove, Path: name})
	if err != nil {
		return pathError("remove", name, err)
	}
	defer fs.mu.Unlock()
	if fault.fails() {
		return pathError("remove", name, fault.Err)
	}
	dir, base, err := fs.parent(name)
	if err != nil {
		return pathError("remove", name, err)
	}
	n := dir.entries[base]
	switch {
	case n == nil:
		return pathError("remove", name, iofs.ErrNotExist)
	case n.isDir() && len(n.entries) > 0:
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	dir.change(change{name: base, node: n, gone: true})
	fs.unlink(n)
	if err := fault.result(); err != nil {
		return pathError("remove", name, err)
	}
	return nil
}

// unlink removes one name of a node. With the last name it frees the space.
func (fs *FS) unlink(n *node) {
	n.links--
	fs.release(n)
}

func (fs *FS) release(n *node) {
	if !n.isDir() && n.links <= 0 && n.handles == 0 {
		fs.used -= int64(n.file.live.allocated(0)) * SectorBytes
	}
}

// MkdirAll implements durable.FS; each missing folder is an operation of its own.
func (fs *FS) MkdirAll(name string, _ os.FileMode) error {
	elems := split(name)
	for i := range elems {
		path := "/" + strings.Join(elems[:i+1], "/")
		n, err := fs.peekNode(path)
		if err == nil {
			if !n.isDir() {
				return pathError("mkdir", path, syscall.ENOTDIR)
			}
			continue
		}
		if err := fs.mkdir(path); err != nil {
			return pathError("mkdir", path, err)
		}
	}
	return nil
}

func (fs *FS) mkdir(path string) error {
	fault, err := fs.begin(Op{Kind: Mkdir, Path: path})
	if err != nil {
		return err
	}
	defer fs.mu.Unlock()
	if fault.fails() {
		return fault.Err
	}
	dir, base, err := fs.parent(path)
	if err != nil {
		return err
	}
	if dir.entries[base] == nil {
		n := newDir()
		n.links = 1
		dir.change(change{name: base, node: n})
	}
	return fault.result()
}

// ReadDir implements durable.FS.
func (fs *FS) ReadDir(name string) ([]string, error) {
	fault, err := fs.begin(Op{Kind: ReadDir, Path: name})
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	defer fs.mu.Unlock()
	if err := fault.result(); err != nil {
		return nil, pathError("readdir", name, err)
	}
	n, err := fs.lookup(name)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("readdir", name, err)
	}
	return slices.Sorted(maps.Keys(n.entries)), nil
}

// SyncDir implements durable.FS. If it fails without being applied, the entries stay
// volatile.
func (fs *FS) SyncDir(name string) error {
	fault, err := fs.begin(Op{Kind: SyncDir, Path: name})
	if err != nil {
		return pathError("sync", name, err)
	}
	defer fs.mu.Unlock()
	if fault.fails() {
		return pathError("sync", name, fault.Err)
	}
	n, err := fs.lookup(name)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return pathError("sync", name, err)
	}
	n.disk, n.pending = maps.Clone(n.entries), nil
	if err := fault.result(); err != nil {
		return pathError("sync", name, err)
	}
	return nil
}

// FreeBytes implements durable.FS: the rest of the capacity.
func (fs *FS) FreeBytes(dir string) (int64, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.dead {
		return 0, pathError("statfs", dir, ErrPowerOff)
	}
	if _, err := fs.lookup(dir); err != nil {
		return 0, pathError("statfs", dir, err)
	}
	if fs.capacity == 0 {
		return math.MaxInt64, nil
	}
	return max(0, fs.capacity-fs.used), nil
}

// Lock implements durable.FS. A power cut releases the lock.
func (fs *FS) Lock(dir string) (func() error, error) {
	fault, err := fs.begin(Op{Kind: Lock, Path: dir})
	if err != nil {
		return nil, pathError("lock", dir, err)
	}
	defer fs.mu.Unlock()
	if err := fault.result(); err != nil {
		return nil, pathError("lock", dir, err)
	}
	n, err := fs.lookup(dir)
	if err == nil && !n.isDir() {
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("lock", dir, err)
	}
	if fs.locks[n] {
		return nil, pathError("lock", dir, durable.ErrLocked)
	}
	fs.locks[n] = true
	return func() error {
		fs.mu.Lock()
		defer fs.mu.Unlock()
		delete(fs.locks, n)
		return nil
	}, nil
}
