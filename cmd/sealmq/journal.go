package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/durable"
)

// storeFolder is the engine's folder in the data folder.
func storeFolder(data string) string { return filepath.Join(data, "store") }

func newJournalCmd() *cobra.Command {
	return group("journal", "Check and list the journal of a stopped broker", newJournalCheckCmd(), newJournalDumpCmd())
}

func newJournalCheckCmd() *cobra.Command {
	return standalone(&cobra.Command{
		Use:   "check",
		Short: "Check the whole journal for damage, without changing it",
		Long: `Read every segment, index and checkpoint of a stopped broker, and report damage by file and
offset. Nothing is changed. The exit status is 1 if records that were confirmed are damaged.`,
	}, func(a call) error {
		in, err := inspectStore(a.cmd, nil)
		if err != nil {
			return err
		}
		if a.asJSON {
			err = a.json(nil, in)
		} else {
			err = printInspection(a.out, in)
		}
		if err == nil && len(in.Report.Damage)+len(in.Problems) > 0 {
			return withHint(errors.New("the store is damaged"),
				`restore a backup, or start once with SEALMQ_STORAGE_DAMAGE=quarantine to set the damaged records aside`)
		}
		return err
	})
}

func newJournalDumpCmd() *cobra.Command {
	cmd := standalone(&cobra.Command{
		Use:   "dump",
		Short: "List all records of a stopped broker, with the size of each body instead of its content",
	}, func(a call) error {
		_, err := inspectStore(a.cmd, func(r local.RecordInfo) error {
			return a.report(nil, r, "%-14s %8d %7d %-8s %s", r.Position, r.Seq, r.Bytes, r.Kind, r.Detail)
		})
		return err
	})
	cmd.Flag("json").Usage = "print one JSON object per record"
	return cmd
}

func inspectStore(cmd *cobra.Command, visit func(local.RecordInfo) error) (*local.Inspection, error) {
	cfg, err := loadConfig(cmd)
	if err != nil {
		return nil, err
	}
	in, err := local.Inspect(durable.OS(), storeFolder(cfg.Data), visit)
	if durable.IsNotExist(err) {
		return nil, withHint(fmt.Errorf("no store in %s", storeFolder(cfg.Data)), `name the data folder with --data`)
	}
	return in, err
}

func printInspection(out io.Writer, in *local.Inspection) error {
	w := tabwriter.NewWriter(out, 2, 8, 2, ' ', 0)
	fmt.Fprintf(w, "store\t%s\ncheckpoint\t%s\nrecords\t%d\n\n", in.StoreID, in.Checkpoint, in.Report.Records)
	fmt.Fprintln(w, "GENERATION\tRECORDS\tBYTES\tFILE")
	for _, s := range in.Segments {
		note := ""
		if s.BadHeader {
			note = "  (header damaged, records readable)"
		}
		fmt.Fprintf(w, "%d\t%d\t%d\t%s%s\n", s.Generation, s.Records, s.End, s.File, note)
	}
	fmt.Fprintln(w)
	for _, d := range in.Report.Damage {
		fmt.Fprintf(w, "damaged:\t%v\n", d)
	}
	for _, p := range in.Problems {
		fmt.Fprintf(w, "damaged:\t%s\n", p)
	}
	for _, d := range in.Report.Dropped {
		fmt.Fprintf(w, "never promised, will be dropped:\t%v\n", d)
	}
	if len(in.Report.Damage)+len(in.Problems) == 0 {
		fmt.Fprintln(w, "no damage")
	}
	return w.Flush()
}
