package main

import (
	"fmt"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/cmd/sealmq/internal/demo"
	"github.com/sealmq/sealmq/internal/durable"
)

// printWhereToLook prints addresses, files, and commands to paste.
func printWhereToLook(say func(string, ...any), exe, atTheEnd, setup string, d *demo.Demo) {
	say("Open the portal in a browser, and choose a password. The browser warns because it does not know the")
	say("authority of this demonstration:")
	say("  %s", setup)
	say("")
	say("Look around:")
	say("  portal          %s", d.PortalURL())
	say("  metrics         http://%s/metrics", d.MetricsAddr())
	say("  health          http://%s/health/ready", d.MetricsAddr())
	say("  received        %s", d.ReceivedFile())
	say("  pipeline        %s/docs, %s/docs", d.ProxyURL(), d.MainURL())
	say("  logs            %s, and of the pipeline's roles beside it", d.LogFile())
	say("  certificates    %s", ca.In(d.Data()).Certs())
	say("")
	say("Try, in another terminal:")
	for _, c := range demoCommands(exe, d) {
		say("  %s", c)
	}
	say("")
	say("Ctrl-C ends all processes%s.", atTheEnd)
}

// demoCommands send one more message, look at it, and receive it.
func demoCommands(exe string, d *demo.Demo) []string {
	exe = shellWord(exe)
	to := fmt.Sprintf("--data %s --addr %s", shellWord(d.Data()), d.Addr())
	file := shellWord(d.ReceivedFile())
	return []string{
		fmt.Sprintf("echo 'one letter more' | %s send %s --as %s --to %s --pins %s --exchange %s --key %s", exe, to, demo.Sender, demo.Receiver, shellWord(d.PinsFile()), demo.Exchange, demo.Key),
		fmt.Sprintf("%s queue list %s", exe, to),
		fmt.Sprintf("%s queue peek %s %s", exe, demo.Queue, to),
		fmt.Sprintf("%s receive %s %s --as %s --key-file %s --out %s --count 1", exe, demo.Queue, to, demo.Receiver, shellWord(d.PrivateKeyFile()), file),
		fmt.Sprintf("tail -n 1 %s", file),
		fmt.Sprintf("%s stats %s", exe, to),
		fmt.Sprintf("%s submit --data %s --as %s --proxy-url %s --sender +4915200000000 --message 'one message more'", exe, shellWord(d.Data()), demo.OtherClient, d.ProxyURL()),
		fmt.Sprintf("%s message list --data %s --main-url %s --limit 3", exe, shellWord(d.Data()), d.MainURL()),
	}
}

// shellWord quotes a text so that a shell takes it as one word.
var shellWord = durable.ShellWord
