package main

import (
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/demo"
)

// printWhereToLook names addresses and files, and commands that can be pasted.
func printWhereToLook(say func(string, ...any), exe, dir string, d *demo.Demo) {
	p := ca.In(d.Data())
	say("Look around:")
	say("  metrics         http://%s/metrics", d.MetricsAddr())
	say("  health          http://%s/health/ready", d.MetricsAddr())
	say("  received        %s", d.ReceivedFile())
	say("  broker's log    %s", d.LogFile())
	say("  certificates    %s", p.Certs())
	say("")
	say("Try, in another terminal:")
	say("  %s --data %s queue list --addr %s", exe, d.Data(), d.Addr())
	say("")
	say("Ctrl-C ends the broker and removes %s", dir)
}
