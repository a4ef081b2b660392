//go:build !unix

package main

import "github.com/rogpeppe/go-internal/testscript"

// asNobody is not supported; scripts use it only under [root].
func asNobody(ts *testscript.TestScript, neg bool, args []string) {
	ts.Fatalf("not on this system")
}
