package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	diskBytes = 128 << 20
	// fsShutdown is FS_IOC_SHUTDOWN. noLogFlush makes it lose what the file system's
	// journal has in memory (include/uapi/linux/fs.h, fs/ext4/ext4.h).
	fsShutdown = 0x8004587d
	noLogFlush = 2
)

// ErrNoDisk says that this machine has no disk whose power could be cut.
var ErrNoDisk = errors.New("no loop device with ext4 here")

// Disk is an ext4 file system on a loop device whose power can be cut.
type Disk struct {
	image, Dir string
	mounted    bool
}

// NewDisk makes a file system in dir, which must lie on another one, and mounts it there.
func NewDisk(dir string) (*Disk, error) {
	d := &Disk{image: filepath.Join(dir, "disk.img"), Dir: filepath.Join(dir, "disk")}
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("%w: only root may mount", ErrNoDisk)
	}
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(d.image, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(d.image, diskBytes); err != nil {
		return nil, err
	}
	// Initialise nothing in the background: those writes would disturb the test.
	if err := command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", d.image); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDisk, err)
	}
	if err := d.mount("ordered"); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoDisk, err)
	}
	return d, nil
}

// mount attaches the image to a loop device and replays the file system's journal. The
// unmount detaches the device.
func (d *Disk) mount(data string) error {
	if err := command("mount", "-t", "ext4", "-o", "loop,data="+data, d.image, d.Dir); err != nil {
		return err
	}
	d.mounted = true
	return nil
}

// Cut cuts the power: nothing is written any more.
func (d *Disk) Cut() error {
	f, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), fsShutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return fmt.Errorf("%w: shut down: %w", ErrNoDisk, errno)
	}
	return nil
}

// Restore makes the file system available again, with data=ordered or writeback.
func (d *Disk) Restore(data string) error {
	var err error
	for range 50 {
		// The kernel may need a moment to release the files of a killed process.
		if err = command("umount", d.Dir); err == nil {
			d.mounted = false
			return d.mount(data)
		}
		pause(context.Background(), 20*time.Millisecond)
	}
	return err
}

// Close unmounts it.
func (d *Disk) Close() error {
	if !d.mounted {
		return nil
	}
	d.mounted = false
	if command("umount", d.Dir) == nil {
		return nil
	}
	return command("umount", "-l", d.Dir)
}

func command(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}

// scatter writes random pages of the journal's segments to the disk, so that any part of an
// unsynced batch may survive.
func scatter(rng *rand.Rand, dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // the broker has not made it yet
		}
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".seg") {
			return err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		const page = 4096
		for at := int64(0); at < info.Size(); at += page {
			if rng.IntN(2) == 0 {
				continue
			}
			if err := unix.SyncFileRange(int(f.Fd()), at, page, unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER); err != nil {
				return fmt.Errorf("write %s in part: %w", path, err)
			}
		}
		return nil
	})
}

// freeze stops a process and returns when none of its threads runs any more: what clients
// receive later was sent before. If inSync is set, a thread may be inside a system call that
// cannot be interrupted, usually a sync. It stops before it returns from the call, so that
// the result has no effect.
func freeze(pid int, inSync bool) error {
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	for !stopped(pid, inSync) {
		if time.Now().After(deadline) {
			return errors.New("the broker does not stop")
		}
		pause(context.Background(), 200*time.Microsecond)
	}
	return nil
}

// stopped reports whether all threads of a process are stopped, or the process is gone. If
// inSync is set, a thread in a system call counts as stopped once another thread shows that
// the signal has arrived.
func stopped(pid int, inSync bool) bool {
	reached, inCall := false, false
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, name := range tasks {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // a thread that ended
		}
		// The state follows the name, which is in parentheses and may contain some.
		rest := bytes.TrimSpace(b[bytes.LastIndexByte(b, ')')+1:])
		if len(rest) == 0 {
			continue
		}
		switch rest[0] {
		case 'T':
			reached = true
		case 'D':
			inCall = true
		case 'Z', 'X':
		default:
			return false
		}
	}
	return !inCall || inSync && reached
}

// power is a run of PowerLoss.
type power struct {
	cfg  Config
	disk *Disk
	host *Host
	rng  *rand.Rand
	r    *Report
}

// PowerLoss cuts the power of a broker again and again: in the first start on an empty
// folder, in later starts, and under load. The data folders are on disk; cfg.Dir is not used.
func PowerLoss(ctx context.Context, cfg Config, disk *Disk) (r *Report, err error) {
	r = &Report{Kind: "cut", Seed: cfg.Seed}
	began := time.Now()
	p := &power{cfg: cfg, disk: disk, r: r, rng: rand.New(rand.NewPCG(uint64(cfg.Seed), 2))}
	for folder := 0; r.Cuts < cfg.Cuts && !cfg.late() && r.OK(); folder++ {
		p.host = &Host{Exe: cfg.Exe, Data: filepath.Join(disk.Dir, fmt.Sprint("data-", folder)), Log: cfg.Log}
		ledger := NewLedger(cfg.Seed+int64(folder), publishers)
		p.host.OnTorn = ledger.Loosen
		err = p.folder(ctx, &load{host: p.host, ledger: ledger})
		r.add(ledger)
		r.Torn += p.host.Torn
		if err != nil {
			err = fmt.Errorf("after %d cuts: %w", r.Cuts, err)
			break
		}
		if err = p.host.Remove(); err != nil {
			break
		}
	}
	r.Elapsed = time.Since(began)
	return r, err
}

// folder is the life of one data folder.
func (p *power) folder(ctx context.Context, l *load) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		p.host.Kill()
		l.publish.Wait()
		l.consume.Wait()
		for _, s := range l.problems {
			p.r.problem("%s", s)
		}
	}()
	for range min(1+p.rng.IntN(2), p.cfg.Cuts-p.r.Cuts) {
		if err := p.cutStart(ctx); err != nil {
			return err
		}
	}
	if err := p.host.Start(ctx); err != nil {
		return err
	}
	if err := l.declare(ctx); err != nil {
		return err
	}
	l.start(ctx, p.rng)
	for range min(4+p.rng.IntN(4), p.cfg.Cuts-p.r.Cuts) {
		pause(ctx, moment(p.rng))
		if err := p.cut(); err != nil {
			return err
		}
		if p.rng.IntN(4) == 0 && p.r.Cuts < p.cfg.Cuts {
			if err := p.cutStart(ctx); err != nil {
				return err
			}
		}
		if err := p.host.Start(ctx); err != nil {
			return err
		}
	}
	if err := l.complete(ctx); err != nil {
		return err
	}
	if p.r.Cuts < p.cfg.Cuts {
		// An acknowledged message must not come again after another cut.
		if err := p.cut(); err != nil {
			return err
		}
		if err := p.host.Start(ctx); err != nil {
			return err
		}
		if err := l.drain(ctx); err != nil {
			return err
		}
	}
	return p.host.Inspect(ctx)
}

// cut cuts the power of the broker that serves clients.
func (p *power) cut() error {
	if err := p.dark(p.host.PID()); err != nil {
		return err
	}
	if err := p.host.Kill(); err != nil {
		return err
	}
	return p.disk.Restore(p.mode())
}

// dark stops a process and then cuts the power of its disk. A process that still runs could
// confirm a sync that raced with the cut.
func (p *power) dark(pid int) error {
	p.r.Cuts++
	inSync := p.rng.IntN(2) == 0
	if err := freeze(pid, inSync); err != nil {
		return err
	}
	if !inSync {
		if err := scatter(p.rng, p.host.Data); err != nil {
			return err
		}
	}
	err := p.disk.Cut()
	// Clients read what was sent before the cut; it counts as confirmed.
	pause(context.Background(), 20*time.Millisecond)
	return err
}

func (p *power) mode() string {
	if p.rng.IntN(3) == 0 {
		return "writeback"
	}
	return "ordered"
}

// cutStart starts the broker and cuts the power at a moment of the start.
func (p *power) cutStart(ctx context.Context) error {
	p.r.EarlyCuts++
	// The kernel kills the process when the thread that started it ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, p.host.Exe, "serve", "broker", "--data", p.host.Data, "--addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		return err
	}
	pause(ctx, time.Duration(5+p.rng.IntN(195))*time.Millisecond)
	err := p.dark(cmd.Process.Pid)
	cmd.Process.Kill()
	cmd.Wait()
	p.host.OnTorn() // it may have repaired a torn batch, which the next start does not report
	if strings.Contains(log.String(), "sealmq: error:") {
		return fmt.Errorf("start: %s", bytes.TrimSpace(log.Bytes()))
	}
	return errors.Join(err, p.disk.Restore(p.mode()))
}
