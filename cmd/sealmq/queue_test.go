package main

import (
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealmq/sealmq"
)

// TestQueueOptionFlags gives each flag for the options of a queue, which must change them.
func TestQueueOptionFlags(t *testing.T) {
	var all queueOptionFlags
	cmd := new(cobra.Command)
	all.add(cmd)
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		value := map[string]string{"bool": "true", "duration": "1m", "stringSlice": sealedDefault}[flag.Value.Type()]
		if value == "" {
			value = "5000"
		}
		var f queueOptionFlags
		cmd := new(cobra.Command)
		f.add(cmd)
		if err := cmd.ParseFlags([]string{"--" + flag.Name + "=" + value}); err != nil {
			t.Fatal(err)
		}
		var o sealmq.QueueOptions
		if err := f.apply(cmd, &o); err != nil || o == (sealmq.QueueOptions{}) {
			t.Errorf("--%s=%s: options %+v, %v", flag.Name, value, o, err)
		}
	})
}
