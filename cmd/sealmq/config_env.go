package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/envfile"
)

// envPrefix begins the names of settings in the environment.
const envPrefix = "SEALMQ_"

// envFile is read from the current folder if it exists, and counts as a part of the environment.
const envFile = ".env"

// variable is a variable of the environment.
type variable struct {
	value string
	from  string // "environment NAME", or ".env:LINE: NAME"
}

// environment has the variables of the process and, where these lack a name, those of .env. An
// empty variable counts as not set.
type environment map[string]variable

func readEnvironment() (environment, error) {
	env := make(environment)
	b, err := os.ReadFile(envFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !isFolder(envFile) {
		return nil, err
	}
	if len(b) > maxConfigBytes {
		return nil, fmt.Errorf("%s: larger than %v", envFile, Size(maxConfigBytes))
	}
	lines, err := envfile.Parse(envFile, b)
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		if l.Value != "" {
			env[l.Name] = variable{l.Value, l.At + ": " + l.Name}
		}
	}
	for _, kv := range os.Environ() {
		if name, value, _ := strings.Cut(kv, "="); value != "" {
			env[name] = variable{value, "environment " + name}
		}
	}
	return env, nil
}

// own maps SEALMQ_SERVER_MAX_CONNECTIONS to server.max_connections. A variable with the prefix
// that matches no key keeps its own name, so that a misspelling is reported.
func (env environment) own() map[string]any {
	keys := make(map[string]string)
	for _, f := range (&Config{}).fields() {
		keys[envName(f.key)] = f.key
	}
	values := make(map[string]any)
	for name, v := range env {
		if key, ok := keys[name]; ok {
			values[key] = v.value
		} else if strings.HasPrefix(name, envPrefix) && !foreignEnv.MatchString(name) {
			values[name] = v.value
		}
	}
	return values
}

// shared maps the names that SealMQ has in common with other programs. A value that makes no
// sense may be meant for one of those, and is no error.
func (env environment) shared() (values map[string]any, notes []string) {
	values = make(map[string]any)
	for _, n := range documentNames {
		v, ok := env[n.env]
		if !ok || !n.live || n.key == "" {
			continue
		}
		if err := n.put(values, v.value); err != nil {
			notes = append(notes, fmt.Sprintf("%s is not taken: %v", v.from, err))
		}
	}
	return values, notes
}

// nameOf says where a key was set by the environment.
func (env environment) nameOf(key string) string {
	if v, ok := env[envName(key)]; ok {
		return v.from
	}
	for _, n := range documentNames {
		if v, ok := env[n.env]; ok && n.live && n.key == key {
			return v.from
		}
	}
	return envName(key)
}

// unread says which names, known from the design documents, stand in the environment without
// effect. In the environment of the process only those count that nothing ever read: the others
// may be meant for another program.
func (env environment) unread() (notes []string) {
	for _, n := range documentNames {
		v, ok := env[n.env]
		switch {
		case !ok || n.live:
		case n.say != "" && (n.unread || strings.HasPrefix(v.from, envFile)):
			notes = append(notes, v.from+": "+n.say)
		case strings.HasPrefix(v.from, envFile):
			notes = append(notes, fmt.Sprintf(`%s: is not read from here; "sealmq config import %s" carries it over to %s`, v.from, envFile, defaultConfigFile))
		}
	}
	return notes
}

// foreignEnv matches variables that are no configuration keys: SEALMQ_CONFIG, those of flags, the ones that
// "sealmq receive --exec" sets for its command, and the ones that Kubernetes sets in every
// container if a service is called sealmq.
var foreignEnv = regexp.MustCompile(`^SEALMQ_(CONFIG|AS|CA|PINS|SERVER_NAME|MSG_.*|(.*_)?SERVICE_(HOST|PORT(_.*)?)|(.*_)?PORT(_[0-9]+_(TCP|UDP|SCTP)(_.*)?)?)$`)

func envName(key string) string {
	if strings.HasPrefix(key, envPrefix) {
		return key
	}
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// warnOfReaders says so if other users can read a file with a password in it.
func warnOfReaders(cmd *cobra.Command, s settings) {
	if runtime.GOOS == "windows" {
		return
	}
	warn := func(key string) {
		path := s.from[key]
		if path != s.file && strings.HasPrefix(path, envFile) {
			path = envFile // without the line
		} else if path != s.file {
			return
		}
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
			notef(cmd, "other users can read %s, which has the password of %s: run chmod 600 %s", path, key, shellWord(path))
		}
	}
	if s.Main.Database != hideURL(s.Main.Database) {
		warn("main.database")
	}
	warn("redis.password")
}
