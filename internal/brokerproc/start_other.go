//go:build !linux

package brokerproc

import "os/exec"

// startTied starts cmd. Nothing kills it when this process dies by force.
func startTied(cmd *exec.Cmd) error { return cmd.Start() }
