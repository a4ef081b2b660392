package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The ioctls of fsfreeze(8) (include/uapi/linux/fs.h).
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

// Freeze makes every write to the file system wait until Thaw, as a disk that hangs does.
func (d *Disk) Freeze() error { return d.ioctl(fiFreeze, "freeze") }

// Thaw ends Freeze.
func (d *Disk) Thaw() error { return d.ioctl(fiThaw, "thaw") }

func (d *Disk) ioctl(request uint, what string) error {
	f, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetInt(int(f.Fd()), request, 0); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrNoDisk, what, err)
	}
	return nil
}

// FrozenDisk lets the disk of a broker under load hang for a while, again and again. Each time
// the broker must say in its health that nothing is stored and confirm nothing, and afterwards be
// healthy and confirm what has waited. The data folder is on disk; cfg.Dir is not used.
func FrozenDisk(ctx context.Context, cfg Config, disk *Disk, lasts time.Duration) (r *Report, err error) {
	r = &Report{Kind: "freeze", Seed: cfg.Seed}
	began := time.Now()
	h := &Host{Exe: cfg.Exe, Data: filepath.Join(disk.Dir, "data"), Log: cfg.Log}
	l := &load{host: h, ledger: NewLedger(cfg.Seed, publishers)}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		h.Kill()
		l.publish.Wait()
		l.consume.Wait()
		for _, p := range l.problems {
			r.problem("%s", p)
		}
		r.add(l.ledger)
		r.Elapsed = time.Since(began)
	}()
	if err := h.Start(ctx); err != nil {
		return r, err
	}
	if err := l.declare(ctx); err != nil {
		return r, err
	}
	rng := rand.New(rand.NewPCG(uint64(cfg.Seed), 3))
	l.start(ctx, rng)
	for ; r.Cuts < cfg.Cuts && !cfg.late(); r.Cuts++ {
		pause(ctx, moment(rng))
		if err := l.frozen(ctx, disk, lasts); err != nil {
			return r, err
		}
	}
	if err := l.complete(ctx); err != nil {
		return r, err
	}
	return r, h.Inspect(ctx)
}

// frozen lets the disk hang once.
func (l *load) frozen(ctx context.Context, disk *Disk, lasts time.Duration) error {
	if err := disk.Freeze(); err != nil {
		return err
	}
	thaw := time.After(lasts)
	err := l.until(ctx, lasts, "the broker says that its disk hangs", func(err error) bool {
		return err != nil && strings.Contains(err.Error(), "the disk has not answered")
	})
	before := l.ledger.Counts().Confirmed // with the confirms of what was stored before
	<-thaw
	during := l.ledger.Counts().Confirmed - before
	if err := errors.Join(err, disk.Thaw()); err != nil {
		return err
	}
	if during > 0 {
		return fmt.Errorf("%d messages were confirmed while nothing could be stored", during)
	}
	if err := l.until(ctx, patience, "the broker is healthy after its disk hung", func(err error) bool { return err == nil }); err != nil {
		return err
	}
	for l.ledger.Counts().Confirmed == before {
		if !pause(ctx, 10*time.Millisecond) {
			return ctx.Err()
		}
	}
	return nil
}

// until waits until the broker's health is as it must be.
func (l *load) until(ctx context.Context, most time.Duration, what string, is func(error) bool) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		err := healthy(ctx, l.host.proc.MetricsAddr)
		if is(err) {
			return nil
		}
		if !pause(ctx, 50*time.Millisecond) {
			return fmt.Errorf("it did not happen that %s; its last answer: %v", what, err)
		}
	}
}
