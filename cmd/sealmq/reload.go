package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/listener"
	"github.com/sealmq/sealmq/mtls"
)

// This file has what a node does when its configuration changes while it runs. Certificates and
// lists of revoked certificates are not part of it: who uses them looks at their files.

// changeable are the settings that are in effect without a restart.
var changeable = []string{"log.level", "proxy.rate", "proxy.burst", "server.max_connections", "server.max_connections_per_identity"}

// lookAge is how soon a node notices a changed file, "sealmq reload" and "sealmq log level".
const lookAge = time.Second

// reloads is the state of a node that follows its configuration.
type reloads struct {
	current settings          // what is in effect, apart from what needs a restart
	begun   Config            // what the node was started with
	known   [sha256.Size]byte // the content of the files that were read last
	seen    [sha256.Size]byte // the content at the last look
	request string            // the last one of "sealmq reload"
	hangups chan os.Signal
}

// reloadAnswer is what a node says to "sealmq reload". It stands in the folder nodes, in a file of
// the node's own that exists as long as the node runs.
type reloadAnswer struct {
	Request string   `json:"request"`
	Roles   []string `json:"roles"`
	Changed []string `json:"changed"`
	Restart []string `json:"restart"`
	Errors  []string `json:"errors"`
}

func nodesFolder(data string) string { return filepath.Join(data, "nodes") }

func requestFile(data string) string { return filepath.Join(nodesFolder(data), "reload") }

// answerFile is the node's own file.
func (n *node) answerFile() string {
	return filepath.Join(nodesFolder(n.cfg.Data), fmt.Sprintf("%s-%d.json", filepath.Base(nodeName()), os.Getpid()))
}

// openReload notes what is in effect. From then on a hangup does not end the node.
func (n *node) openReload() error {
	r := &n.reloads
	r.hangups = make(chan os.Signal, 1)
	signal.Notify(r.hangups, syscall.SIGHUP)
	r.begun = n.cfg
	r.known = n.digest(false)
	r.seen = r.known
	r.request = readRequest(n.cfg.Data)
	return nil
}

// register makes the node's own file. A node without it still follows its files.
func (n *node) register() {
	err := durable.MkdirAll(durable.OS(), nodesFolder(n.cfg.Data), 0o700)
	if err == nil {
		err = n.answer(reloadAnswer{Request: n.reloads.request, Roles: n.roles})
	}
	if err != nil {
		n.log.Warn(`"sealmq reload" does not reach this node`, "err", err)
	}
}

func (n *node) closeReload(context.Context) error {
	signal.Stop(n.reloads.hangups)
	_ = os.Remove(n.answerFile())
	return nil
}

func (n *node) answer(a reloadAnswer) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return durable.WriteFile(durable.OS(), n.answerFile(), b, 0o600)
}

func readRequest(data string) string {
	b, _ := durable.ReadFile(durable.OS(), requestFile(data), maxSetting) // nil if there is none
	return string(b)
}

// digest is that of the files that a configuration is read from, and of those that have keys for
// records.
func (n *node) digest(keys bool) (sum [sha256.Size]byte) {
	h := sha256.New()
	files := []string{n.reloads.current.file, envFile}
	if keys && n.has("main") {
		files = append(files, n.keyFiles()...)
	}
	for _, file := range files {
		b, err := durable.ReadFile(durable.OS(), file, maxConfigBytes)
		fmt.Fprintf(h, "%v %d ", errors.Is(err, fs.ErrNotExist), len(b))
		h.Write(b)
	}
	h.Sum(sum[:0])
	return sum
}

// watchConfig reads the configuration again on SIGHUP, on "sealmq reload", and when its files
// have changed, and follows "sealmq log level".
func (n *node) watchConfig(ctx context.Context) error {
	tick := time.NewTicker(lookAge)
	defer tick.Stop()
	r := &n.reloads
	if r.known == n.digest(false) { // the files of keys were made meanwhile
		r.known = n.digest(true)
		r.seen = r.known
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.hangups:
			n.reload("hangup")
		case <-tick.C:
			now := n.digest(true)
			// A file that is being written is read when it has not changed for a while.
			if now != r.known && now == r.seen {
				n.reload("changed file")
			}
			r.seen = now
			if request := readRequest(n.cfg.Data); request != r.request {
				r.request = request
				if err := n.answer(n.reload("sealmq reload")); err != nil {
					n.log.Warn(`the answer to "sealmq reload" cannot be written`, "err", err)
				}
			}
			n.logs.setLevel(r.current.logLevel())
		}
	}
}

// reload reads the configuration again. If anything is wrong with it, or with a file that it
// names, everything stays as it is.
func (n *node) reload(why string) reloadAnswer {
	r := &n.reloads
	a := reloadAnswer{Request: r.request, Roles: n.roles}
	r.known = n.digest(true)
	now, err := n.reread()
	if err == nil {
		err = n.checkReload(now.Config)
	}
	var limits listener.Limits
	if err == nil && n.server != nil {
		limits, err = n.connectionLimits(now.Server)
	}
	newKeys := false
	if err == nil && n.has("main") { // the last, because it acts at once
		newKeys, err = n.reloadRecordKeys()
	}
	if err != nil {
		for _, e := range flatten(err) {
			a.Errors = append(a.Errors, e.Error())
		}
		n.log.Error("the configuration cannot be used, so everything stays as it was", "reason", why, "errors", a.Errors)
		return a
	}
	old, begun := r.current.fields(), r.begun.fields()
	for i, f := range now.fields() {
		switch {
		case slices.Contains(changeable, f.key):
			if f.value.Interface() != old[i].value.Interface() {
				a.Changed = append(a.Changed, f.key)
			}
		case f.value.Interface() != begun[i].value.Interface():
			a.Restart = append(a.Restart, f.key)
		}
	}
	if newKeys {
		a.Changed = append(a.Changed, "keys for records")
	}
	r.current = now
	n.logs.setLevel(now.logLevel())
	if p := n.pipeline.proxy; p != nil {
		p.SetRate(httpkit.Rate{PerSecond: now.Proxy.Rate, Burst: now.Proxy.Burst})
	}
	if n.server != nil {
		n.server.SetConnections(limits.Connections, limits.ConnectionsPerIdentity)
	}
	n.log.Info("the configuration was read again", "reason", why, "changed", a.Changed)
	if len(a.Restart) > 0 {
		n.log.Warn("changed settings need a restart", "settings", a.Restart)
	}
	return a
}

// checkReload checks the files that a changed configuration would use.
func (n *node) checkReload(now Config) error {
	errs := []error{now.checkFiles()}
	files := []mtls.Files{n.files}
	for _, role := range n.certificateRoles() {
		files = append(files, n.roleFiles(role))
	}
	if n.has("portal") && n.cfg.Portal.Cert != "" {
		own := n.roleFiles(sealmq.RoleServer)
		own.Cert, own.Key = n.cfg.Portal.Cert, n.cfg.Portal.Key
		files = append(files, own)
	}
	for _, f := range files {
		_, err := mtls.ServerConfig(f, mtls.Options{MinVersion: n.cfg.TLS.version()})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// keyFiles are the files of keys for records, with the salt of the earlier system.
func (n *node) keyFiles() (list []string) {
	for _, name := range []string{"records", "numbers"} {
		paths, err := recordKeys(n.pipelineFolder(), name)
		if err != nil {
			return nil
		}
		for _, path := range paths {
			list = append(list, path)
		}
	}
	slices.Sort(list)
	return append(list, filepath.Join(n.pipelineFolder(), saltFile))
}
