package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/logfile"
)

// nodeLogs are the logs of a node: the console, and a file for each of its roles. They must be
// closed.
type nodeLogs struct {
	level slog.LevelVar
	sinks []*logSink // the console first
	// loggers has one for each role. What is about no single role goes to the file of the first one.
	loggers map[string]*slog.Logger
	node    *slog.Logger
}

// openLogs opens the logs of a node with these roles. Files are made with their first line.
func openLogs(cfg Config, roles []string, console io.Writer) *nodeLogs {
	l := &nodeLogs{loggers: make(map[string]*slog.Logger)}
	l.setLevel(cfg.logLevel())
	asText := cfg.Log.Format == "text" || cfg.Log.Format != "json" && onTerminal(console)
	toConsole := slog.New(l.open(consoleLog, console, asText, nil))
	l.node = toConsole
	for _, role := range roles {
		if l.loggers[role] != nil {
			continue // it was named twice
		}
		handler := toConsole.Handler()
		if dir := cfg.logFolder(); dir != "" {
			name := logFileOf(role)
			file := logfile.New(filepath.Join(dir, name), cfg.Log.KeepDays, time.Now)
			handler = slog.NewMultiHandler(handler, l.open(name, file, cfg.Log.Format == "text", toConsole))
		}
		l.loggers[role] = slog.New(handler).With("component", components[role].name)
		if role == roles[0] {
			l.node = slog.New(handler)
		}
	}
	return l
}

// open makes the handler of one log.
func (l *nodeLogs) open(name string, out io.Writer, asText bool, console *slog.Logger) slog.Handler {
	o := &slog.HandlerOptions{Level: &l.level, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Value.Kind() == slog.KindDuration { // JSON would show nanoseconds
			a.Value = slog.StringValue(a.Value.Duration().String())
		}
		return a
	}}
	handler := func(w io.Writer) slog.Handler {
		if asText {
			return slog.NewTextHandler(w, o)
		}
		return slog.NewJSONHandler(w, o)
	}
	sink := newLogSink(name, out, handler, console)
	l.sinks = append(l.sinks, sink)
	return handler(sink)
}

// close writes what waits, but not for long.
func (l *nodeLogs) close() {
	for _, s := range slices.Backward(l.sinks) { // files may have something to tell on the console
		s.close()
	}
}

func (l *nodeLogs) setLevel(text string) {
	var level slog.Level
	if level.UnmarshalText([]byte(text)) == nil { // else Validate has refused it
		l.level.Set(level)
	}
}

// trouble says what is wrong with the first log that has trouble.
func (l *nodeLogs) trouble() string {
	for _, s := range slices.Backward(l.sinks) {
		if why := s.trouble(); why != "" {
			return why
		}
	}
	return ""
}

// register adds the metrics of a role's logs.
func (l *nodeLogs) register(reg *prometheus.Registry, role string) {
	for _, s := range l.sinks {
		if s.name == consoleLog || s.name == logFileOf(role) {
			reg.MustRegister(s.collector())
		}
	}
}

func logFileOf(role string) string { return components[role].name + ".log" }

// logFolder is where log files are kept, or "".
func (c *Config) logFolder() string {
	if c.Log.Folder == "off" {
		return ""
	}
	return cmp.Or(c.Log.Folder, filepath.Join(c.Data, "logs"))
}

// levelFile has the level that "sealmq log level" set for all nodes with this data folder.
func (c *Config) levelFile() string { return filepath.Join(c.Data, "log-level") }

// logLevel is the level that counts: what "sealmq log level" set, else the configuration's.
func (c *Config) logLevel() string { return cmp.Or(c.levelSet(), c.Log.Level) }

// levelSet is what "sealmq log level" set, or "".
func (c *Config) levelSet() string {
	b, err := durable.ReadFile(durable.OS(), c.levelFile(), maxSetting)
	if set := strings.TrimSpace(string(b)); err == nil && slices.Contains(logLevels, set) {
		return set
	}
	return ""
}

// levelOfLogs is "sealmq log level" for the API.
type levelOfLogs struct{ n *node }

// Get implements mainserver.LogLevel.
func (l levelOfLogs) Get() (level string, configured bool) {
	return strings.ToLower(l.n.logs.level.Level().String()), l.n.cfg.levelSet() == ""
}

// Set implements mainserver.LogLevel.
func (l levelOfLogs) Set(level string) error {
	if err := l.n.cfg.setLogLevel(level); err != nil {
		return err
	}
	l.n.logs.setLevel(cmp.Or(level, l.n.cfg.Log.Level))
	return nil
}

var logLevels = []string{"debug", "info", "warn", "error"}

func newLogCmd() *cobra.Command {
	return group("log", "Say how much the nodes of this data folder log", newLogLevelCmd())
}

func newLogLevelCmd() *cobra.Command {
	const unset = "default"
	cmd := &cobra.Command{
		Use:   "level [LEVEL]",
		Short: "Show or set the level of the log, also of running nodes",
		Long: `Set the level of the log for all nodes with this data folder: debug, info, warn or error. Those that run follow
within a second, and the level stays over a restart until it is set to "default", which is log.level of the
configuration. Without LEVEL the current one is shown.`,
		Example: `  sealmq log level debug
  sealmq log level default`,
		ValidArgs: append([]string{unset}, logLevels...),
	}
	return configured(cmd, func(a call, cfg Config) error {
		if len(a.args) == 1 {
			if err := cfg.setLogLevel(strings.TrimSuffix(a.args[0], unset)); err != nil {
				return err
			}
		}
		level, from := cfg.Log.Level, "log.level of the configuration"
		if set := cfg.logLevel(); set != level {
			level, from = set, `"sealmq log level"`
		}
		return a.report(nil, result{"level": level}, "the level of the log is %s, by %s", level, from)
	})
}

// setLogLevel writes the file that nodes look at, or removes it if level is "".
func (c *Config) setLogLevel(level string) error {
	if _, err := os.Stat(c.Data); err != nil {
		return withHint(fmt.Errorf("the data folder: %w", err), "name the folder of a node with --data")
	}
	if level == "" {
		if err := os.Remove(c.levelFile()); err != nil && !durable.IsNotExist(err) {
			return err
		}
		return nil
	}
	if !slices.Contains(logLevels, level) {
		return usagef("level %q is not one of %s, default", level, strings.Join(logLevels, ", "))
	}
	return durable.WriteFile(durable.OS(), c.levelFile(), []byte(level+"\n"), 0o600)
}
