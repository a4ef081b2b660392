package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/engine/local"
	"github.com/sealmq/sealmq/internal/durable"
)

// storeFolder is the engine's folder in the data folder.
func storeFolder(data string) string { return filepath.Join(data, "store") }

func newJournalCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "journal",
		Short: "Check and list the journal of a stopped broker",
	}
	cmd.AddCommand(newJournalCheckCmd(), newJournalDumpCmd())
	return cmd
}

func newJournalCheckCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the whole journal for damage, without changing it",
		Long: `Read every segment, index and checkpoint of a stopped broker, and report damage by file and
offset. Nothing is changed. The exit status is 1 if records that were confirmed are damaged.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in, err := inspectStore(cmd, nil)
			if err != nil {
				return err
			}
			if asJSON {
				err = json.NewEncoder(cmd.OutOrStdout()).Encode(in)
			} else {
				err = printInspection(cmd, in)
			}
			if err == nil && len(in.Report.Damage)+len(in.Problems) > 0 {
				return withHint(errors.New("the store is damaged"),
					`restore a backup, or start once with SEALMQ_STORAGE_DAMAGE=quarantine to set the damaged records aside`)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return cmd
}

func newJournalDumpCmd() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "List all records of a stopped broker, with the size of each body instead of its content",
		RunE: func(cmd *cobra.Command, _ []string) error {
			out := json.NewEncoder(cmd.OutOrStdout())
			_, err := inspectStore(cmd, func(r local.RecordInfo) error {
				if asJSON {
					return out.Encode(r)
				}
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%-14s %8d %7d %-8s %s\n", r.Position, r.Seq, r.Bytes, r.Kind, r.Detail)
				return err
			})
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object per record")
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

func printInspection(cmd *cobra.Command, in *local.Inspection) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 2, 8, 2, ' ', 0)
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
