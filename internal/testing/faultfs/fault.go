package faultfs

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
)

// ErrPowerOff is the error of every operation after the power was cut.
var ErrPowerOff = errors.New("faultfs: the power is off")

// Kind is a kind of operation.
type Kind uint8

// The kinds. Create to SyncDir change something that a crash could show; they are the
// mutations that PowerOffAt counts.
const (
	Open     Kind = iota + 1 // of an existing file
	Read                     // File.ReadAt
	ReadDir                  //
	Lock                     //
	Create                   // OpenFile that makes a new file
	Write                    // File.WriteAt
	Sync                     // File.Sync
	Truncate                 // File.Truncate, or OpenFile with O_TRUNC
	Rename                   //
	Remove                   //
	Mkdir                    // one for each folder that MkdirAll makes
	SyncDir                  //
	kinds                    // their number
)

var kindNames = [kinds]string{
	"", "open", "read", "readdir", "lock", "create", "write", "sync", "truncate", "rename", "remove", "mkdir", "syncdir",
}

// String is the kind's name in lower case.
func (k Kind) String() string {
	if k == 0 || k >= kinds {
		return fmt.Sprintf("kind(%d)", uint8(k))
	}
	return kindNames[k]
}

func (k Kind) mutates() bool { return k >= Create }

// Op is one operation as a hook sees it, before it happens.
type Op struct {
	Kind Kind
	Path string
	// NewPath is the target of a Rename.
	NewPath string
	// Off and Len are set for Read and Write; Off is the size for Truncate.
	Off int64
	Len int
	// N counts the operations of this kind from one, Mutation all mutations from one
	// (0 for other kinds).
	N, Mutation int
}

// String is for messages.
func (o Op) String() string {
	s := fmt.Sprintf("%s %s", o.Kind, o.Path)
	switch o.Kind {
	case Rename:
		s += " -> " + o.NewPath
	case Read, Write:
		s += fmt.Sprintf(" [%d+%d]", o.Off, o.Len)
	case Truncate:
		s += fmt.Sprintf(" to %d", o.Off)
	}
	return s
}

// Fault is what happens to one operation instead of succeeding.
type Fault struct {
	// Err is what the caller gets. Nil lets the operation succeed, after Hang.
	Err error
	// Applied does the operation although it reports the error. A Write then reports 0
	// bytes.
	Applied bool
	// Short is how many bytes a Write stores before it fails.
	Short int
	// Partial makes a failing Sync write a random part of the dirty sectors, chosen by
	// Seed.
	Partial bool
	Seed    uint64
	// Hang makes the operation wait until the channel is closed or the power is cut. A
	// Sync that waited covers only what was written before it began.
	Hang <-chan struct{}
	// Damage changes what a Read returns; the content stays.
	Damage func(p []byte)
}

// EIO is the usual error of a broken disk.
var EIO error = syscall.EIO

// scheduled is a fault that waits for its operation.
type scheduled struct {
	kind  Kind
	nth   int // operations of this kind that are still to come, this one included
	fault Fault
}

// Fail makes the nth operation of a kind from now on fail; 1 is the next one. A zero
// Fault means EIO, not applied. Several may be scheduled.
func (fs *FS) Fail(kind Kind, nth int, f Fault) {
	if f.Err == nil && f.Hang == nil && f.Damage == nil {
		f.Err = EIO
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.faults = append(fs.faults, scheduled{kind, nth, f})
}

// Hook sets a function that sees every operation before it happens and may return a
// fault for it; nil removes it. It runs without a lock, so it may take a Snapshot or
// cut the power, and must be safe for concurrent use if the store is.
func (fs *FS) Hook(hook func(Op) *Fault) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.hook = hook
}

// takeFault counts the scheduled faults down. The caller holds the lock.
func (fs *FS) takeFault(kind Kind) *Fault {
	var hit *Fault
	fs.faults = slices.DeleteFunc(fs.faults, func(s scheduled) bool { return s.nth <= 0 })
	for i := range fs.faults {
		s := &fs.faults[i]
		if s.kind != kind {
			continue
		}
		if s.nth--; s.nth == 0 {
			f := s.fault
			hit = &f
		}
	}
	return hit
}

// begin counts op and finds its fault. Without an error it returns with the lock held,
// and the caller must unlock.
func (fs *FS) begin(op Op) (*Fault, error) { return fs.beginAfter(op, func() {}) }

// beginAfter calls start, with the lock held, if other operations may run before it
// returns.
func (fs *FS) beginAfter(op Op, start func()) (*Fault, error) {
	fs.mu.Lock()
	if fs.dead {
		fs.mu.Unlock()
		return nil, ErrPowerOff
	}
	fs.counts[op.Kind]++
	op.N = fs.counts[op.Kind]
	if op.Kind.mutates() {
		fs.mutations++
		op.Mutation = fs.mutations
		if fs.offAt > 0 && fs.mutations >= fs.offAt {
			fs.powerOff()
			fs.mu.Unlock()
			return nil, ErrPowerOff
		}
	}
	fault := fs.takeFault(op.Kind)
	hook := fs.hook
	if hook == nil && (fault == nil || fault.Hang == nil) {
		return fault, nil
	}
	start()
	fs.mu.Unlock()
	if hook != nil {
		if f := hook(op); f != nil {
			fault = f
		}
	}
	if fault != nil && fault.Hang != nil {
		select {
		case <-fault.Hang:
		case <-fs.off:
		}
	}
	fs.mu.Lock()
	if fs.dead {
		fs.mu.Unlock()
		return nil, ErrPowerOff
	}
	return fault, nil
}

// fails reports whether the operation ends with an error before it is done.
func (f *Fault) fails() bool { return f != nil && f.Err != nil && !f.Applied }

// result is the error after the operation was done.
func (f *Fault) result() error {
	if f == nil {
		return nil
	}
	return f.Err
}
