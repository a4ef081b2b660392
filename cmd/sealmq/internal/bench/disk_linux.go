package bench

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// fileSystems are the names of the numbers that statfs returns.
var fileSystems = map[int64]string{
	unix.EXT4_SUPER_MAGIC:      "ext4",
	unix.XFS_SUPER_MAGIC:       "xfs",
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlay",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.FUSE_SUPER_MAGIC:      "fuse",
	0x2fc12fc1:                 "zfs",
	0x9fa0:                     "proc",
}

// FileSystem is the file system of a folder, and whether it is in memory, where a sync
// does nothing.
func FileSystem(dir string) (name string, inMemory bool, err error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return "", false, fmt.Errorf("look at the file system of %s: %w", dir, err)
	}
	kind := int64(s.Type)
	name, ok := fileSystems[kind]
	if !ok {
		name = fmt.Sprintf("%#x", kind)
	}
	return name, kind == unix.TMPFS_MAGIC || kind == unix.RAMFS_MAGIC, nil
}
