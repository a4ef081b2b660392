//go:build unix

package main

import (
	"bytes"
	"os/exec"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/sealmq/sealmq/internal/testing/program"
)

// nobodyID is the user that owns nothing, by convention.
const nobodyID = 65534

// asNobody runs the program as a user other than root, so that file permissions apply.
func asNobody(ts *testscript.TestScript, neg bool, args []string) {
	exe, err := program.Build()
	ts.Check(err)
	cmd := exec.Command(exe, args[1:]...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/nowhere"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobodyID, Gid: nobodyID}}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err == nil {
		ts.Fatalf("it succeeded")
	}
	want := strings.ReplaceAll(ts.ReadFile(args[0]), "$WORK", ts.Getenv("WORK"))
	if stderr.String() != want {
		ts.Fatalf("got:\n%swant:\n%s", stderr.String(), want)
	}
}
