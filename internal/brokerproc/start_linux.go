package brokerproc

import (
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// startTied starts cmd so that the kernel kills it when this process dies. For the kernel
// the parent is the thread that started cmd, so this thread must live as long as the
// child. A goroutine that stays locked to it keeps it alive.
func startTied(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		// Ctrl-C in a terminal goes to a whole process group, but the parent decides
		// when the broker stops.
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
		waitExit(cmd.Process.Pid)
	}()
	return <-started
}

// waitExit returns when the process has ended, without collecting its exit status.
func waitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return
		}
	}
}
