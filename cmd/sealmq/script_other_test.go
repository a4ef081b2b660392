//go:build !unix

package main

import "github.com/rogpeppe/go-internal/testscript"

// asNobody has no meaning here; scripts use it under [root] alone.
func asNobody(ts *testscript.TestScript, neg bool, args []string) {
	ts.Fatalf("not on this system")
}
