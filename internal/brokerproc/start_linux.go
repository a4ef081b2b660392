package brokerproc

import (
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// startTied starts cmd so that the kernel kills it when this process dies. The kernel
// means the thread that started it, so that thread must live as long as the process:
// a goroutine keeps it by never unlocking it.
func startTied(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// Ctrl-C in a terminal goes to a whole process group; the parent decides when
		// the broker stops.
		Setpgid: true,
	}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		// Wait without collecting the exit status, which belongs to cmd.Wait.
		waitExit(cmd.Process.Pid)
	}()
	return <-started
}

// waitExit returns when the process has ended, and leaves it to be collected.
func waitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}
