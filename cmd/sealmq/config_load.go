package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	yamlv3 "go.yaml.in/yaml/v3"
)

// defaultConfigFile is read from the current folder if it exists.
const defaultConfigFile = "sealmq.yaml"

// maxConfigBytes limits the configuration file, so that a wrong path cannot fill the memory.
const maxConfigBytes = 1 << 20

// loadConfig returns the configuration of cmd: flags over environment over file over
// defaults. It reports all unknown keys, wrong types, values out of range and
// contradictions at once, each with the name of its key.
func loadConfig(cmd *cobra.Command) (Config, error) { return readConfig(cmd, (*Config).Validate) }

// clientConfig is loadConfig for commands that run no broker. It does not check the ranges
// of the broker's settings.
func clientConfig(cmd *cobra.Command) (Config, error) {
	return readConfig(cmd, func(c *Config) error {
		if c.Data == "" {
			return errors.New("data: must name a folder")
		}
		return nil
	})
}

func readConfig(cmd *cobra.Command, validate func(*Config) error) (Config, error) {
	s, err := readSettings(cmd, validate)
	return s.Config, err
}

// settings are a configuration and where it was found.
type settings struct {
	Config
	file  string            // the configuration file
	from  map[string]string // says for each key that was set where that was
	notes []string          // what was found and is not read
}

func readSettings(cmd *cobra.Command, validate func(*Config) error) (s settings, err error) {
	s = settings{Config: defaultConfig(), from: make(map[string]string)}
	env, err := readEnvironment()
	if err != nil {
		return s, err
	}
	path, explicit := configFile(cmd, env)
	s.file = path
	file, err := readConfigFile(path, explicit)
	if err != nil {
		return s, err
	}
	var p problems
	set := func(values map[string]any, name func(key string) string) {
		p = append(p, s.apply(values, name)...)
		for key := range values {
			s.from[key] = strings.TrimSuffix(name(key), ": "+key)
		}
	}
	set(file, func(key string) string { return path + ": " + key })
	p = append(p, s.placePaths(filepath.Dir(path), file)...)
	shared, notes := env.shared()
	s.notes = append(notes, env.unread()...)
	set(shared, env.nameOf)
	set(env.own(), env.nameOf)
	set(changedFlags(cmd), func(key string) string { return "flag for " + key })
	// A key that could not be read still has its default, so the rest can be checked.
	if err := validate(&s.Config); err != nil {
		p = append(p, flatten(err)...)
	}
	return s, withHint(errors.Join(p...), `"sealmq config example" prints every key with its meaning and default`)
}

// defaultConfig has the default of every key, as the example shows them.
var defaultConfig = sync.OnceValue(func() (c Config) {
	k := koanf.New(".")
	err := k.Load(rawbytes.Provider([]byte(configExample)), yaml.Parser())
	if err = errors.Join(append(c.apply(k.All(), envName), err)...); err != nil {
		panic("sealmq: internal error: " + err.Error())
	}
	return c
})

// configFile is the file to read, and whether the user named it.
func configFile(cmd *cobra.Command, env environment) (path string, explicit bool) {
	if f := cmd.Flag("config"); f != nil && f.Changed {
		return f.Value.String(), true
	}
	if v := env[envPrefix+"CONFIG"].value; v != "" {
		return v, true
	}
	return defaultConfigFile, false
}

func readConfigFile(path string, explicit bool) (map[string]any, error) {
	b, err := os.ReadFile(path)
	if !explicit && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		if pe, ok := errors.AsType[*fs.PathError](err); ok {
			err = pe.Err
		}
		err = fmt.Errorf("read configuration %q: %w", path, err)
		if errors.Is(err, fs.ErrNotExist) {
			err = withHint(err, `check --config and SEALMQ_CONFIG; "sealmq config example" prints a configuration to begin with`)
		}
		return nil, err
	}
	if len(b) > maxConfigBytes {
		return nil, fmt.Errorf("read configuration %q: larger than %v", path, Size(maxConfigBytes))
	}
	k := koanf.New(".")
	if err = oneDocument(b); err == nil {
		err = k.Load(rawbytes.Provider(b), yaml.Parser())
	}
	if err != nil {
		text, hint := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n"), `the keys of a section begin in the same column; "sealmq config example" shows all of them`
		if at := tabbed.FindIndex(b); at != nil {
			text = fmt.Sprintf("line %d begins with a tab; indent with spaces", 1+bytes.Count(b[:at[1]], []byte("\n")))
		}
		if !utf8.Valid(b) {
			text, hint = "it is not a text in UTF-8", "save it as UTF-8 without other encodings in it"
		}
		return nil, withHint(fmt.Errorf("read configuration %q: %s", path, strings.Join(strings.Fields(text), " ")), "%s", hint)
	}
	return k.All(), nil
}

// tabbed matches a line with a tab in its indentation. YAML does not allow it, and its parser names
// no tab.
var tabbed = regexp.MustCompile(`(?m)^ *\t`)

// oneDocument refuses a second document in a file, of which koanf would read nothing.
func oneDocument(b []byte) error {
	d := yamlv3.NewDecoder(bytes.NewReader(b))
	var first, second yamlv3.Node
	if err := d.Decode(&first); err != nil {
		if err == io.EOF {
			err = nil
		}
		return err
	}
	switch err := d.Decode(&second); {
	case err == nil:
		return fmt.Errorf("a second document begins in line %d; all settings belong into the first one, so remove the line ---", second.Line)
	case err != io.EOF:
		return err
	}
	return nil
}

// configKeyAnnotation marks a flag that sets a configuration key.
const configKeyAnnotation = "sealmq_config_key"

// configFlag adds a flag that sets a configuration key. Its default is the default of the
// key. It overrides file and environment only if it is given.
func configFlag(fl *pflag.FlagSet, name, key, usage string) {
	fl.String(name, defaultTexts()[key], usage)
	fl.Lookup(name).Annotations = map[string][]string{configKeyAnnotation: {key}}
}

// defaultTexts are the defaults of all keys, as flags show them.
var defaultTexts = sync.OnceValue(func() map[string]string {
	texts, c := make(map[string]string), defaultConfig()
	for _, f := range c.fields() {
		texts[f.key] = fmt.Sprint(f.value.Interface())
	}
	return texts
})

func changedFlags(cmd *cobra.Command) map[string]any {
	values := make(map[string]any)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if key := f.Annotations[configKeyAnnotation]; len(key) == 1 {
			values[key[0]] = f.Value.String()
		}
	})
	return values
}

// field is one key of the configuration with its check and the place of its value.
type field struct {
	key, check string
	value      reflect.Value
}

// fields lists all keys of c in the order of their declaration.
func (c *Config) fields() []field {
	return appendFields(nil, "", reflect.ValueOf(c).Elem())
}

// field is the one of fields that has a key, which must exist.
func (c Config) field(key string) field {
	list := c.fields()
	return list[slices.IndexFunc(list, func(f field) bool { return f.key == key })]
}

func appendFields(list []field, prefix string, v reflect.Value) []field {
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag
		key := prefix + tag.Get("key")
		if v.Field(i).Kind() == reflect.Struct {
			list = appendFields(list, key+".", v.Field(i))
		} else {
			list = append(list, field{key, tag.Get("check"), v.Field(i)})
		}
	}
	return list
}

// problems collects everything that is wrong, so that the user can fix it all at once.
type problems []error

func (p *problems) addf(format string, args ...any) { *p = append(*p, fmt.Errorf(format, args...)) }

// apply sets the values of one layer. name gives a key's name in errors.
func (c *Config) apply(values map[string]any, name func(string) string) (p problems) {
	fields := make(map[string]field)
	var known []string
	for _, f := range c.fields() {
		fields[f.key] = f
		known = append(known, f.key)
	}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		f, ok := fields[key]
		if !ok {
			section, isMap := values[key].(map[string]any)
			isSection := slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, key+".") })
			switch {
			case isSection && (values[key] == nil || isMap && len(section) == 0):
				// A section whose keys are all commented out.
			case isSection:
				p.addf("%s: is a section and has no value of its own", name(key))
			default:
				p.addf("%s: unknown key%s", name(key), didYouMean(key, known))
			}
			continue
		}
		text, err := scalar(values[key])
		if err == nil {
			err = setText(f.value, text)
		}
		if err != nil {
			p.addf("%s: %w", name(key), err)
		} else if first, _, _ := strings.Cut(f.check, "|"); (first == "folder" || first == "path") && strings.HasPrefix(f.value.String(), "~") {
			p.addf("%s: %q begins with ~, which only a shell replaces; write the whole path", name(key), f.value)
		}
	}
	return p
}

// setText stores a value as YAML, a variable or a flag has it.
func setText(dst reflect.Value, text string) error {
	switch dst.Interface().(type) {
	case string:
		// YAML reads min_version: 1.3 as a number, but its text is meant.
		dst.SetString(text)
	case int:
		n, err := strconv.Atoi(strings.ReplaceAll(text, "_", ""))
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		dst.SetInt(int64(n))
	case Size:
		n, err := parseSize(text)
		if err != nil {
			return err
		}
		dst.SetInt(int64(n))
	case time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil {
			return fmt.Errorf("%q is not a duration such as 30s, 5m or 1h", text)
		}
		dst.SetInt(int64(d))
	default:
		panic("sealmq: internal error: configuration field of type " + dst.Type().String())
	}
	return nil
}

// allowed compares a setting's value with its check. The check is a range such as 1KiB..4MiB, or a list
// such as on|off. The words "address" in a list, for host:port, "folder" and "path" stand for
// texts of that kind; a relative folder or path of the file is relative to that. An empty check allows everything.
func allowed(f field) error {
	check, v := f.check, f.value
	if low, high, ok := strings.Cut(check, ".."); ok {
		bounds := [2]reflect.Value{reflect.New(v.Type()).Elem(), reflect.New(v.Type()).Elem()}
		if err := errors.Join(setText(bounds[0], low), setText(bounds[1], high)); err != nil {
			panic("sealmq: internal error: check of a setting: " + err.Error())
		}
		if v.Int() < bounds[0].Int() || v.Int() > bounds[1].Int() {
			return fmt.Errorf("%v is not between %v and %v", v, bounds[0], bounds[1])
		}
		return nil
	}
	list := strings.Split(check, "|")
	switch {
	case check == "folder" && v.IsZero():
		return errors.New("must name a folder")
	case check == "", check == "folder", list[0] == "path", slices.Contains(list, v.String()):
		return nil
	case list[0] == "address":
		return checkAddress(f.key, v.String())
	}
	return fmt.Errorf("%q is not one of %s", v, strings.Join(list, ", "))
}

func scalar(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", errors.New("has no value")
	case string:
		return v, nil
	case int, int64, uint64:
		return fmt.Sprint(v), nil
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), nil
	case bool:
		return "", fmt.Errorf("cannot be %v; put it in quotes if it is a text", v)
	case []any:
		return "", errors.New("needs one value, not a list")
	case map[string]any:
		return "", errors.New("needs one value, not a section")
	}
	return "", fmt.Errorf("cannot be a %T", v)
}

// didYouMean suggests the known key that is most like key, by its whole name, its last word
// or its variable.
func didYouMean(key string, known []string) string {
	words := func(k string) string { return strings.ReplaceAll(k, "_", ".") }
	name, word := func(k string) string { return k }, words(key)
	if rest, ok := strings.CutPrefix(key, envPrefix); ok {
		name, word = envName, words(strings.ToLower(rest))
	}
	best, least := usualNames[word], max(3, len(word)/3)
	if best != "" {
		return "; did you mean " + name(best) + "?"
	}
	for _, k := range known {
		d := distance(word, words(k))
		if last := distance(word, words(k[strings.LastIndexByte(k, '.')+1:])); last < 3 {
			d = min(d, last)
		}
		if d < least {
			best, least = name(k), d
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// usualNames are what other programs call a setting.
var usualNames = map[string]string{
	"addr": "server.addr", "address": "server.addr", "broker": "server.addr", "host": "server.addr", "server": "server.addr", "url": "server.addr",
	"data.dir": "data", "dir": "data", "home": "data", "debug": "log.level", "loglevel": "log.level",
}

// distance is the number of letters to change, add, remove or swap with their neighbour.
func distance(a, b string) int {
	before, row, next := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			changed := row[j]
			if a[i] != b[j] {
				changed++
			}
			next[j+1] = min(changed, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row, next = row, next, before
	}
	return row[len(b)]
}
