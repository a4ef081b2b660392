//go:build !linux

package redis

import (
	"errors"
	"os/exec"
)

func start(cmd *exec.Cmd) error { return cmd.Start() }

// Freeze is for Linux.
func (s *Server) Freeze() error { return errors.ErrUnsupported }

// Thaw is for Linux.
func (s *Server) Thaw() error { return errors.ErrUnsupported }
