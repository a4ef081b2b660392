package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
)

func newConfigCmd() *cobra.Command {
	return group("config", "Show, check and import the configuration", newConfigExampleCmd(), newConfigCheckCmd(), newConfigImportCmd())
}

func newConfigExampleCmd() *cobra.Command {
	var env bool
	cmd := &cobra.Command{
		Use:   "example",
		Short: "Print an example file with every key, its meaning and its default",
		Example: `  sealmq config example > sealmq.yaml
  sealmq config example --env > .env`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text := configExample
			if env {
				text = envExample()
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), text)
			return err
		},
	}
	cmd.Flags().BoolVar(&env, "env", false, "print it as variables, for the file .env")
	return cmd
}

// envExample is the example as variables that are commented out.
func envExample() string {
	var b strings.Builder
	b.WriteString("# Settings of SealMQ as variables. As .env in the folder where sealmq runs they are read, too;\n" +
		"# real variables override them. Remove the # of those that you set. Only you may be able to read\n" +
		"# the file if it has passwords.\n\n" +
		"# These names of other programs work as well:\n")
	for _, n := range documentNames {
		if n.live && n.key != "" {
			fmt.Fprintf(&b, "# %s is %s.\n", n.env, envName(n.key))
		} else if n.live {
			fmt.Fprintf(&b, "# %s: %s.\n", n.env, n.say)
		}
	}
	_, settings, _ := strings.Cut(configExample, "\n\n")
	section := ""
	b.WriteString("\n")
	for line := range strings.Lines(settings) {
		line = strings.TrimSuffix(line, "\n")
		text := strings.TrimSpace(line)
		name, value, isKey := strings.Cut(text, ":")
		switch {
		case text == "", text[0] == '#', !isKey:
			fmt.Fprintln(&b, text)
			continue
		case line == text:
			section = ""
		}
		if value == "" {
			section = name + "."
			continue
		}
		fmt.Fprintf(&b, "#%s=%s\n", envName(section+name), strings.Trim(value, ` "`))
	}
	return b.String()
}

func newConfigCheckCmd() *cobra.Command {
	var wanted []string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check the configuration without starting anything",
		Long: `Read flags, environment and file as "sealmq serve" would, and report everything that is
wrong. Print the values that differ from their defaults, each with the place where it was set; passwords are not shown.
With --role print all values of these roles, and say what a node with them lacks.`,
		Example: `  sealmq config check
  sealmq config check --role proxy --role worker`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkRoles(cmd, wanted); err != nil {
				return err
			}
			return checkConfig(cmd, wanted)
		},
	}
	cmd.Flags().StringSliceVar(&wanted, "role", nil, "check for a node with this `role`; can be repeated")
	_ = cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(roles, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// checkFiles reads the files that the configuration names, as "sealmq serve" would.
func (c *Config) checkFiles() error {
	if _, err := c.revocationList(cmp.Or(c.TLS.CA, ca.In(c.Data).CA), nil); err != nil {
		return err
	}
	if _, err := c.channels(); err != nil {
		return err
	}
	if c.TLS.Cert == "" {
		return nil
	}
	files := mtls.Files{Cert: c.TLS.Cert, Key: c.TLS.Key, CA: c.TLS.CA}
	_, err := mtls.ServerConfig(files, mtls.Options{MinVersion: c.TLS.version()})
	return withHint(err, "tls.cert, tls.key and tls.ca name the broker's certificate, its key, and the authority of its clients; omit all three to use the files in the data folder")
}

func checkConfig(cmd *cobra.Command, wanted []string) error {
	s, err := readSettings(cmd, (*Config).Validate)
	if err != nil {
		return err
	}
	if err := s.checkFiles(); err != nil {
		return err
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	defaults := defaultConfig()
	base := defaults.fields()
	for i, f := range s.fields() {
		if f.value.Interface() != base[i].value.Interface() || belongs(f.key, wanted) {
			fmt.Fprintf(out, "%s: %s  # %s\n", f.key, f.shown(), cmp.Or(s.from[f.key], "default"))
		}
	}
	s.warn(cmd)
	if slices.Contains(wanted, "broker") && !slices.Contains(wanted, "main") && s.Pipeline.Main == "" {
		notef(cmd, "role broker: pipeline.main: names no main server; set it if there is one, or this broker lets in what is revoked there")
	}
	if err := s.lacks(cmd.Context(), wanted); err != nil {
		return errors.Join(out.Flush(), err)
	}
	fmt.Fprintln(out, "configuration is valid")
	return out.Flush()
}

// warn prints what was found and is not read.
func (s *settings) warn(cmd *cobra.Command) {
	slices.Sort(s.notes)
	for _, note := range s.notes {
		notef(cmd, "%s", note)
	}
}

// sections are what a role reads of the configuration, beside what all do.
var sections = map[string][]string{
	"broker": {"server", "storage", "dedup", "limits", "metrics", "backup", "pipeline.main", "ca"},
	"proxy":  {"pipeline", "redis", "proxy", "ca"},
	"worker": {"pipeline", "redis", "worker", "ca"},
	"main":   {"pipeline", "redis", "main", "mail", "portal.url", "backup", "ca"},
	"portal": {"pipeline.main", "portal", "main.session_idle", "main.session_lifetime", "ca"},
}

// belongs reports whether one of the roles reads a key.
func belongs(key string, wanted []string) bool {
	if len(wanted) == 0 {
		return false
	}
	list := []string{"data", "tls", "log", "alerts"}
	for _, role := range wanted {
		list = append(list, sections[role]...)
	}
	return slices.ContainsFunc(list, func(s string) bool { return key == s || strings.HasPrefix(key, s+".") })
}

// lacks says what a node with these roles needs and does not have. The first start makes most
// files of a data folder, so only those are missed that it cannot make.
func (c *Config) lacks(ctx context.Context, wanted []string) error {
	var p problems
	has := func(role string) bool { return slices.Contains(wanted, role) }
	for _, role := range wanted {
		takes := role == "proxy" || role == "worker"
		if takes && !has("broker") && c.Pipeline.Broker == "" && !c.Redis.set() {
			p.addf("role %s: pipeline.broker: names no broker; set it, run the role broker in the same process, or set redis.addr", role)
		}
		if (takes || role == "portal") && !has("main") && c.Pipeline.Main == "" {
			p.addf("role %s: pipeline.main: names no main server; set it, or run the role main in the same process", role)
		}
		if has("broker") || has("main") {
			continue // it makes an authority
		}
		paths, name := ca.In(c.Data), role
		if role == "portal" {
			name = ca.ServerName
		}
		for _, file := range []string{paths.Root, paths.Cert(name), paths.Key(name)} {
			if !exists(file) && (file == paths.Root || !exists(paths.IntermediateKey)) {
				p.addf("role %s: %s is missing; docs/operations/apart.md says how to enroll this host", role, file)
			}
		}
	}
	if has("main") && c.Main.Database != "" {
		if err := c.Main.checkDatabase(ctx); err != nil {
			p.addf("role main: main.database: %w", err)
		}
	}
	if c.Redis.set() && (has("proxy") || has("worker") || has("main")) {
		if err := c.Redis.checkServer(ctx); err != nil {
			p = append(p, err)
		}
	}
	if has("main") && c.Mail.Host != "" {
		if _, err := c.Mail.sender(nil); err != nil {
			p.addf("role main: %w", err)
		}
	}
	if has("portal") && c.Portal.Cert != "" {
		if _, err := tls.LoadX509KeyPair(c.Portal.Cert, c.Portal.Key); err != nil {
			p.addf("role portal: portal.cert: %w", err)
		}
	}
	if has("portal") {
		if _, err := openACME(&c.Portal, c.Data, nil); err != nil {
			p.addf("role portal: %w", err)
		}
	}
	return errors.Join(p...)
}
