package server

import (
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// start starts the server, as owner if there is one. The kernel ends it if this process is
// killed. It must not change its user by itself: then the kernel forgets that.
func start(cmd *exec.Cmd, owner *user.User) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if owner != nil {
		uid, err := strconv.ParseUint(owner.Uid, 10, 32)
		if err != nil {
			return err
		}
		gid, err := strconv.ParseUint(owner.Gid, 10, 32)
		if err != nil {
			return err
		}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	return cmd.Start()
}

// Freeze stops the server where it is, until Thaw.
func (p *Process) Freeze() error { return p.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw lets a frozen server go on.
func (p *Process) Thaw() error { return p.cmd.Process.Signal(syscall.SIGCONT) }
