package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	yamlv3 "go.yaml.in/yaml/v3"

	"github.com/sealmq/sealmq/cmd/sealmq/internal/envfile"
	"github.com/sealmq/sealmq/internal/durable"
)

func newConfigImportCmd() *cobra.Command {
	var out string
	var force bool
	cmd := &cobra.Command{
		Use:   "import FILE...",
		Short: "Carry the settings of .env and config.yaml files over, once",
		Long: `Read the configuration of a message broker of the earlier Python system, and write what has a meaning here into a new
configuration file. Files are named .env, or end in .env, .yaml or .yml. If two files set the same, the one that is
named first counts.

Every line that is not carried over is printed with what to do about it. Passwords go to files of their own in the
folder "secrets" beside the new file, with mode 0600. Nothing that is there is overwritten without --force.`,
		Example: `  sealmq config import .env proxy/config.yaml worker/config.yaml`,
	}
	cmd.Flags().StringVar(&out, "out", defaultConfigFile, "write the configuration to this `file`")
	cmd.Flags().BoolVar(&force, "force", false, "overwrite files that are there")
	return standalone(cmd, func(a call) error {
		im := &importer{out: out, values: make(map[string]any), at: make(map[string]string), secrets: make(map[string]string), env: make(map[string]string)}
		for _, file := range a.args {
			if err := im.read(file); err != nil {
				return err
			}
		}
		for _, line := range im.left {
			a.note("%s", line)
		}
		if len(im.values) == 0 {
			return withHint(errors.New("nothing in these files has a meaning here"), `"sealmq config example" prints every key`)
		}
		if err := im.write(force); err != nil {
			return err
		}
		return a.report(nil, result{"file": out, "settings": len(im.values), "left": len(im.left)},
			"wrote %s to %s; check it with: sealmq config check --config %s", plural(uint64(len(im.values)), "setting"), out, shellWord(out))
	})
}

// importer collects settings from files of another program.
type importer struct {
	out     string
	values  map[string]any    // by key
	at      map[string]string // where a key was set
	secrets map[string]string // by file
	left    []string          // lines that were not carried over, with what to do
	env     map[string]string // for ${NAME} in values
}

func (im *importer) read(file string) error {
	b, err := durable.ReadFile(durable.OS(), file, maxConfigBytes)
	if err != nil {
		return err
	}
	switch ext := filepath.Ext(file); ext {
	case ".env":
		lines, err := envfile.Parse(file, b)
		if err != nil {
			return err
		}
		for _, l := range lines {
			im.env[l.Name] = l.Value
			im.take(file, l.At, l.Name, l.Value, func(n documentName) bool { return n.env == l.Name })
		}
	case ".yaml", ".yml":
		var doc yamlv3.Node
		if err := yamlv3.Unmarshal(b, &doc); err != nil {
			return fmt.Errorf("%s: %s", file, strings.TrimPrefix(err.Error(), "yaml: "))
		}
		for _, n := range doc.Content {
			im.walk(file, "", n)
		}
	default:
		return usagef("%s: a file is .env, or ends in .env, .yaml or .yml", file)
	}
	return nil
}

// walk takes the values of a YAML file, which is not deeper than its parser allows.
func (im *importer) walk(file, name string, n *yamlv3.Node) {
	at := fmt.Sprintf("%s:%d", file, n.Line)
	switch n.Kind {
	case yamlv3.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			im.walk(file, strings.TrimPrefix(name+"."+n.Content[i].Value, "."), n.Content[i+1])
		}
	case yamlv3.ScalarNode, yamlv3.SequenceNode:
		value := im.expand(n.Value)
		if n.ShortTag() == "!!null" {
			value = ""
		}
		im.take(file, at, name, value, func(d documentName) bool { return d.yaml == name })
	default:
		im.left = append(im.left, at+": "+name+": links between values are not understood; write the value itself")
	}
}

var reference = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}`)

// expand replaces ${NAME} and ${NAME:-default} by what the files before and the environment say.
func (im *importer) expand(s string) string {
	return reference.ReplaceAllStringFunc(s, func(found string) string {
		m := reference.FindStringSubmatch(found)
		return cmp.Or(im.env[m[1]], os.Getenv(m[1]), m[2])
	})
}

// take carries one value over, or says why not.
func (im *importer) take(file, at, name, value string, is func(documentName) bool) {
	leave := func(format string, args ...any) {
		im.left = append(im.left, fmt.Sprintf("%s: %s: ", at, name)+fmt.Sprintf(format, args...))
	}
	i := slices.IndexFunc(documentNames, is)
	if i < 0 && strings.HasPrefix(name, envPrefix) {
		leave("is a variable of SealMQ already; it works in .env as it is")
		return
	}
	if i < 0 {
		leave("is not understood")
		return
	}
	n := documentNames[i]
	switch {
	case n.key == "" || n.live && n.say != "":
		leave("%s", n.say)
		return
	case value == "":
		return // as if it were not there
	case strings.ContainsAny(value, "\r\n\x00"):
		leave("has more than one line")
		return
	}
	values, secrets, first := maps.Clone(im.values), maps.Clone(im.secrets), im.at[n.key+n.part]
	if n.part == "" {
		delete(im.values, n.key) // so that what stands there after put is this value
	}
	err := n.put(im.values, value)
	if set, ok := im.values[n.key]; err == nil && ok && (n.part == "" || set != values[n.key]) {
		err = im.adapt(file, n.key)
	} else {
		im.values = values
	}
	isNew := !maps.Equal(im.values, values) || !maps.Equal(im.secrets, secrets)
	if err == nil && isNew && first != "" {
		err = fmt.Errorf("%s says otherwise, and counts", first)
	}
	if err != nil {
		leave("%v", err)
		im.values, im.secrets = values, secrets
		return
	}
	if isNew {
		im.at[n.key+n.part] = at
		im.at[n.key] = cmp.Or(im.at[n.key], at)
	}
}

// adapt checks a value, moves a password to a file of its own, and makes a path relative to the
// new configuration file.
func (im *importer) adapt(file, key string) error {
	text, _ := im.values[key].(string)
	switch key {
	case "mail.password_file":
		im.secret(key, text)
		return nil
	case "redis.password":
		delete(im.values, key)
		im.secret("redis.password_file", text)
		im.at["redis.password_file"] = cmp.Or(im.at["redis.password_file"], file)
		return nil
	case "main.database":
		scheme, rest, _ := strings.Cut(text, "://")
		if at := strings.LastIndex(rest, "@"); at >= 0 {
			user, password, ok := strings.Cut(rest[:at], ":")
			if ok {
				if plain, err := url.PathUnescape(password); err == nil {
					password = plain
				}
				im.secret("main.password_file", password)
				im.at["main.password_file"] = cmp.Or(im.at["main.password_file"], file)
			}
			im.values[key] = scheme + "://" + user + rest[at:]
		}
		return nil
	}
	f := defaultConfig().field(key)
	if kind, _, _ := strings.Cut(f.check, "|"); kind == "path" && !filepath.IsAbs(text) {
		from, err := filepath.Rel(filepath.Dir(im.out), filepath.Join(filepath.Dir(file), text))
		if err != nil {
			return err
		}
		im.values[key], text = filepath.ToSlash(from), from
	}
	if err := setText(f.value, text); err != nil {
		return err
	}
	return allowed(f)
}

// secret keeps a password for a file, which key names.
func (im *importer) secret(key, password string) {
	name := filepath.Join("secrets", strings.ReplaceAll(strings.TrimSuffix(key, "_file"), ".", "-"))
	im.secrets[filepath.Join(filepath.Dir(im.out), name)] = password
	im.values[key] = filepath.ToSlash(name)
}

// write writes the configuration and the secrets. The configuration comes last: while it is
// not there, nothing uses the others. A secret that an interrupted call left is no obstacle.
func (im *importer) write(force bool) error {
	for _, file := range append([]string{im.out}, slices.Sorted(maps.Keys(im.secrets))...) {
		if secret, ok := im.secrets[file]; ok && holds(file, secret) {
			continue
		}
		if _, err := os.Lstat(file); err == nil && !force {
			return withHint(fmt.Errorf("%s is there already", file), "name another file with --out, or overwrite it with --force")
		}
	}
	text, err := im.text()
	if err != nil {
		return err
	}
	for file, secret := range im.secrets {
		if err := durable.MkdirAll(durable.OS(), filepath.Dir(file), 0o700); err != nil {
			return err
		}
		if err := durable.WriteFile(durable.OS(), file, secretText(secret), 0o600); err != nil {
			return err
		}
	}
	if err := durable.MkdirAll(durable.OS(), filepath.Dir(im.out), 0o700); err != nil {
		return err
	}
	return durable.WriteFile(durable.OS(), im.out, []byte(text), 0o600)
}

// secretText is the content of a secret's file.
func secretText(secret string) []byte { return []byte(secret + "\n") }

// holds reports whether a file has this secret already.
func holds(file, secret string) bool {
	b, err := durable.ReadFile(durable.OS(), file, maxConfigBytes)
	return err == nil && bytes.Equal(b, secretText(secret))
}

// text is the new configuration, in the order of the example.
func (im *importer) text() (string, error) {
	var b strings.Builder
	b.WriteString("# Made by \"sealmq config import\". \"sealmq config example\" explains every key.\n")
	section := ""
	for _, f := range (&Config{}).fields() {
		value, ok := im.values[f.key]
		if !ok {
			continue
		}
		name := f.key
		if s, rest, ok := strings.Cut(f.key, "."); ok {
			if s != section {
				fmt.Fprintf(&b, "%s:\n", s)
			}
			section, name = s, "  "+rest
		}
		text := fmt.Sprint(value)
		if !f.value.CanInt() {
			quoted, err := yamlv3.Marshal(value)
			if err != nil {
				return "", err
			}
			text = strings.TrimSpace(string(quoted))
		}
		fmt.Fprintf(&b, "%s: %s  # %s\n", name, text, im.at[f.key])
	}
	return b.String(), nil
}
