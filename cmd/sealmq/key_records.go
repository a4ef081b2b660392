package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// The main server's keys at rest are files in the folder pipeline: NAME.key is version 1,
// NAME-2.key version 2, and so on. The highest is for new rows.

// recordKeys finds the versions of a key. Version 1 counts also if it is missing and there is
// no other: then it is still to be made, or to be restored.
func recordKeys(dir, name string) (map[uint16]string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	paths := make(map[uint16]string)
	for _, f := range files {
		stem, isKey := strings.CutSuffix(f.Name(), ".key")
		digits, hasVersion := strings.CutPrefix(stem, name+"-")
		version, err := strconv.ParseUint(digits, 10, 16)
		switch {
		case isKey && stem == name:
			paths[1] = filepath.Join(dir, f.Name())
		case isKey && hasVersion && err == nil && version > 1:
			paths[uint16(version)] = filepath.Join(dir, f.Name())
		}
	}
	if len(paths) == 0 {
		paths[1] = filepath.Join(dir, name+".key")
	}
	return paths, nil
}

// loadRecordKeys reads the versions of a key; create makes the first one.
func loadRecordKeys(dir, name string, create bool) (*atrest.Ring, error) {
	paths, err := recordKeys(dir, name)
	if err != nil {
		return nil, err
	}
	return atrest.Load(atrest.Files{Paths: paths, Create: create})
}

func newKeyRotateRecordsCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate-records",
		Short: "Make a new key for the messages that the main server stores",
		Long: `Make a new version of the key that stored messages are encrypted with, in the data folder of the main
server. A main server that runs encrypts new messages with it within a few seconds, and brings those that are stored
to it in the background. Its log says when it is done. Back the new file up at once. If several main servers share
the database, copy the file to each of them: the others cannot read what is written with it before.

Older files are needed until then, and for older backups of the database.`,
	}
	numbers := cmd.Flags().Bool("numbers", false, "make a new key for the search by phone number too")
	return configured(cmd, func(a call, cfg Config) error {
		dir := filepath.Join(cfg.Data, "pipeline")
		names := []string{"records"}
		if *numbers {
			names = append(names, "numbers")
		}
		var made []string
		for _, name := range names {
			file, err := addRecordKey(dir, name)
			if err != nil {
				return withHint(err, "name the main server's data folder with --data")
			}
			made = append(made, file)
		}
		return a.report(nil, result{"made": made}, "made %s; back it up now: a running main server uses it at once", strings.Join(made, " and "))
	})
}

// addRecordKey makes the next version of a key.
func addRecordKey(dir, name string) (string, error) {
	paths, err := recordKeys(dir, name)
	if err != nil {
		return "", err
	}
	ring, err := atrest.Load(atrest.Files{Paths: paths})
	if err != nil {
		return "", err
	}
	versions := ring.Versions()
	next := slices.Max(versions) + 1
	file := filepath.Join(dir, fmt.Sprintf("%s-%d.key", name, next))
	paths[next] = file
	_, err = atrest.Load(atrest.Files{Paths: paths, Create: true})
	return file, err
}

// reloadRecordKeys reads the key files again, and uses them if all of them can be used.
func (n *node) reloadRecordKeys() (changed bool, err error) {
	ring, err := loadRecordKeys(n.pipelineFolder(), "records", false)
	if err != nil {
		return false, err
	}
	numbers, err := loadHasher(n.pipelineFolder(), false)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), reloadTimeout)
	defer cancel()
	changed, err = n.pipeline.store.SetKeys(ctx, ring, numbers)
	if changed {
		select {
		case n.pipeline.newKeys <- struct{}{}:
		default: // it will look at the newest ones anyway
		}
	}
	return changed, nameKey(err, n.pipelineFolder())
}

// reloadTimeout bounds what the database is asked about new keys.
const reloadTimeout = 10 * time.Second

// Pauses of the re-encryption: messages that come in have the disk first.
const (
	reencryptPause = 50 * time.Millisecond
	reencryptAgain = 10 * time.Second
)

// reencrypt brings stored messages to the newest keys.
func (n *node) reencrypt(ctx context.Context) error {
	begun, failing := false, ""
	for {
		p, err := n.pipeline.store.Reencrypt(ctx)
		pause := reencryptPause
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			pause = reencryptAgain
			if text := err.Error(); text != failing {
				failing = text
				n.logOf("main").Warn("stored messages cannot be brought to the newest key now; trying again", "err", err)
			}
		case p.Done:
			if begun || p.Changed > 0 {
				n.logOf("main").Info("all stored messages have the newest key", "key_version", p.KeyVersion, "changed", p.Changed, "unreadable", p.Unreadable)
			}
			select {
			case <-ctx.Done():
				return nil
			case <-n.pipeline.newKeys:
				begun = false
			}
		case !begun:
			begun = true
			n.logOf("main").Info("stored messages are brought to the newest key", "key_version", p.KeyVersion, "last_row", p.Last)
		}
		if clock.Sleep(ctx, clock.System, pause) != nil {
			return nil
		}
	}
}
