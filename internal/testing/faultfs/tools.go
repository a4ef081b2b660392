package faultfs

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// Mutations is the number of operations so far that PowerOffAt counts.
func (fs *FS) Mutations() int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.mutations
}

// Count is the number of operations of a kind so far, failed ones included.
func (fs *FS) Count(kind Kind) int {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.counts[kind]
}

// SetCapacity limits the space of all files, in whole sectors. A write beyond it stores what
// fits and fails with ENOSPC. 0 is no limit.
func (fs *FS) SetCapacity(bytes int64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.capacity = bytes
}

// Used is the space of all files.
func (fs *FS) Used() int64 {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.used
}

// DropCaches makes reads show the disk's content for pages that a failed sync lost.
func (fs *FS) DropCaches() {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.walk(fs.root, "/", func(_ string, n *node) {
		if !n.isDir() {
			n.file.dropCache()
		}
	})
	fs.used = fs.root.usage(make(map[*node]bool))
}

// Unsynced names what a crash could still lose: files with unsynced content, and folders
// with unsynced entries. It is empty if everything is durable.
func (fs *FS) Unsynced() []string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var list []string
	fs.walk(fs.root, "/", func(name string, n *node) {
		switch {
		case n.isDir() && len(n.pending) > 0:
			list = append(list, "entries of "+name)
		case !n.isDir() && (n.file.dirtyCount > 0 || n.file.live.size != n.file.disk.size):
			list = append(list, "content of "+name)
		}
	})
	return list
}

// Files returns the paths of all files, sorted.
func (fs *FS) Files() []string {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	var list []string
	fs.walk(fs.root, "/", func(name string, n *node) {
		if !n.isDir() {
			list = append(list, name)
		}
	})
	return list
}

func (fs *FS) walk(n *node, name string, fn func(string, *node)) {
	fn(name, n)
	for _, entry := range slices.Sorted(maps.Keys(n.entries)) {
		fs.walk(n.entries[entry], path.Join(name, entry), fn)
	}
}

// Put makes a file with the given content, durable with all its folders. Tests build folders
// with it; it does not count as an operation.
func (fs *FS) Put(name string, data []byte) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	elems := split(name)
	dir := fs.root
	for _, elem := range elems[:len(elems)-1] {
		child := dir.entries[elem]
		if child == nil {
			child = newDir()
			child.links = 1
			dir.entries[elem], dir.disk[elem] = child, child
		}
		dir = child
	}
	base := elems[len(elems)-1]
	if old := dir.entries[base]; old != nil {
		fs.unlink(old)
	}
	n := &node{file: new(fileData), links: 1}
	n.file.write(data, 0, func() bool { fs.used += SectorBytes; return true })
	n.file.sync()
	dir.entries[base], dir.disk[base] = n, n
	dir.pending = slices.DeleteFunc(dir.pending, func(c change) bool { return c.name == base || c.newName == base })
}

// Get returns the content of a file as reads see it. It panics if there is none.
func (fs *FS) Get(name string) []byte {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.mustFile(name)
	data := make([]byte, f.live.size)
	f.live.read(data, 0)
	return data
}

// Cut truncates a file, durably. It panics if there is none.
func (fs *FS) Cut(name string, size int64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.mustFile(name)
	fs.used -= int64(f.truncate(size)) * SectorBytes
	f.sync()
}

// FlipBit inverts one bit of a file, in memory and on the disk, like bit rot. Bit 0 is the
// lowest bit of the first byte. It panics if the file has no such bit.
func (fs *FS) FlipBit(name string, bit int64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.mustFile(name)
	if bit < 0 || bit/8 >= f.live.size {
		panic(fmt.Sprintf("faultfs: bit %d is outside of %s", bit, name))
	}
	i, at, mask := int(bit/8/SectorBytes), bit/8%SectorBytes, byte(1)<<(bit%8)
	flip := func(c *content) {
		if bit/8 >= c.size {
			return
		}
		var s sector
		if old := c.at(i); old != nil {
			s = *old
		}
		s[at] ^= mask
		c.own()
		c.set(i, &s)
	}
	flip(&f.live)
	flip(&f.disk)
}

func (fs *FS) mustFile(name string) *fileData {
	n, err := fs.lookup(name)
	if err != nil || n.isDir() {
		panic(fmt.Sprintf("faultfs: no file %s; there are: %s", name, strings.Join(slices.Sorted(maps.Keys(fs.root.entries)), " ")))
	}
	return n.file
}
