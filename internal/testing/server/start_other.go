//go:build !linux

package server

import (
	"errors"
	"os/exec"
	"os/user"
)

func start(cmd *exec.Cmd, owner *user.User) error {
	if owner != nil {
		return errors.ErrUnsupported
	}
	return cmd.Start()
}

// Freeze is for Linux.
func (p *Process) Freeze() error { return errors.ErrUnsupported }

// Thaw is for Linux.
func (p *Process) Thaw() error { return errors.ErrUnsupported }
