//go:build !linux

package mariadb

import (
	"os/exec"
	"os/user"
)

func start(cmd *exec.Cmd, owner *user.User) error {
	if owner != nil {
		cmd.Args = append(cmd.Args, "--user="+owner.Username)
	}
	return cmd.Start()
}
