package pipelineproc

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// MoveClock changes what a running role reads as the time of day, and as the time that has
// passed, by whole seconds from the machine's own. It is as if somebody had set the role's
// clock, or had waited. Timers follow the time that has passed, which must only grow. Where
// this cannot be done it returns errors.ErrUnsupported.
//
// A Go program asks the kernel's page of functions (vDSO) for the time. The function there is
// replaced in this process alone by one that makes the system call and adds.
func (p *Pipeline) MoveClock(role string, ofDay, passed time.Duration) error {
	proc := p.Process(role)
	if proc == nil {
		return fmt.Errorf("the role %s does not run", role)
	}
	dir := filepath.Join("/proc", strconv.Itoa(proc.PID))
	memory, err := os.OpenFile(filepath.Join(dir, "mem"), os.O_RDWR, 0)
	if err != nil {
		return refusedByKernel(err)
	}
	defer memory.Close()
	from, to, err := clockFunction(dir, memory)
	if err != nil {
		return err
	}
	code := clockCode(ofDay, passed)
	for until := time.Now().Add(time.Minute); time.Now().Before(until); {
		if err := syscall.Kill(proc.PID, syscall.SIGSTOP); err != nil {
			return err
		}
		stopped, free, err := nobodyIn(dir, from, to)
		for !stopped && err == nil && time.Now().Before(until) { // a thread stops when it gets a processor
			<-time.After(time.Millisecond)
			stopped, free, err = nobodyIn(dir, from, to)
		}
		if free && err == nil {
			_, err = memory.WriteAt(code, int64(from))
		}
		if err := errors.Join(err, syscall.Kill(proc.PID, syscall.SIGCONT)); free || err != nil {
			return refusedByKernel(err)
		}
	}
	return errors.New("the process is always reading its clock")
}

// refusedByKernel makes an error errors.ErrUnsupported if this system lets nobody write into
// another process.
func refusedByKernel(err error) error {
	if errors.Is(err, os.ErrPermission) || errors.Is(err, syscall.EIO) {
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}

// clockFunction is where the function begins and ends that tells the time.
func clockFunction(dir string, memory *os.File) (begin, end uint64, err error) {
	maps, err := os.ReadFile(filepath.Join(dir, "maps"))
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(maps)) {
		var from, to uint64
		if !strings.HasSuffix(line, "[vdso]\n") {
			continue
		}
		if _, err := fmt.Sscanf(line, "%x-%x", &from, &to); err != nil {
			return 0, 0, err
		}
		image := make([]byte, to-from)
		if _, err := memory.ReadAt(image, int64(from)); err != nil {
			return 0, 0, err
		}
		file, err := elf.NewFile(bytes.NewReader(image))
		if err != nil {
			return 0, 0, err
		}
		symbols, err := file.DynamicSymbols()
		if i := slices.IndexFunc(symbols, func(s elf.Symbol) bool { return s.Name == "__vdso_clock_gettime" }); i >= 0 {
			begin = from + symbols[i].Value
			return begin, begin + symbols[i].Size, nil
		}
		return 0, 0, errors.Join(errors.New("the vDSO has no clock"), err)
	}
	return 0, 0, errors.New("the process has no vDSO")
}

// nobodyIn reports whether all threads have stopped, and none between two addresses.
func nobodyIn(dir string, from, to uint64) (stopped, free bool, err error) {
	threads, err := filepath.Glob(filepath.Join(dir, "task", "*", "syscall"))
	if err != nil || len(threads) == 0 {
		return false, false, errors.Join(errors.New("the process has no threads"), err)
	}
	free = true
	for _, file := range threads {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return false, false, err
		}
		words := strings.Fields(string(text)) // the last one is where it stands, or "running"
		pc, err := strconv.ParseUint(words[len(words)-1], 0, 64)
		if err != nil {
			return false, false, nil
		}
		free = free && (pc < from || pc >= to)
	}
	return true, free, nil
}

// clockCode is clock_gettime(clock, *timespec) with what is added to its seconds.
func clockCode(ofDay, passed time.Duration) []byte {
	code := []byte{
		0xb8, 228, 0, 0, 0, // mov eax, clock_gettime
		0x0f, 0x05, // syscall
		0x83, 0xff, 0x01, // cmp edi, CLOCK_MONOTONIC
		0x77, 27, // ja the return: neither that nor CLOCK_REALTIME
	}
	code = append(code, 0x48, 0xb9) // mov rcx, ofDay
	code = binary.LittleEndian.AppendUint64(code, uint64(ofDay/time.Second))
	code = append(code, 0x48, 0xba) // mov rdx, passed
	code = binary.LittleEndian.AppendUint64(code, uint64(passed/time.Second))
	return append(code,
		0x48, 0x0f, 0x44, 0xca, // cmove rcx, rdx
		0x48, 0x01, 0x0e, // add [rsi], rcx
		0xc3) // ret
}
