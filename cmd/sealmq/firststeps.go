package main

import "strings"

// firstCommands take a new user from a node that runs to a sealed message that was received.
// The README has the same.
var firstCommands = []string{
	`sealmq identity create alice bob`,
	`echo "Noon is fine." | sealmq send --as alice --to bob --exchange post --key bob --declare`,
	`sealmq receive bob --as bob --count 1`,
	`cat bob.jsonl`,
}

// firstSteps is what a node says on a terminal at its first start.
func firstSteps(cfg Config, addr string) string {
	var lines []string
	usual := defaultConfig()
	if cfg.Data != usual.Data {
		lines = append(lines, "export SEALMQ_DATA="+shellWord(cfg.Data))
	}
	if addr != usual.Server.Addr {
		lines = append(lines, "export SEALMQ_SERVER_ADDR="+shellWord(addr))
	}
	lines = append(lines, firstCommands...)
	return "\nNow try it, in another terminal and in this folder:\n\n  " + strings.Join(lines, "\n  ") + "\n\n"
}
