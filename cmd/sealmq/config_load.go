package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/env/v2"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// defaultConfigFile is read from the current folder if it exists.
const defaultConfigFile = "sealmq.yaml"

// maxConfigBytes limits the configuration file, so that a wrong path cannot fill the memory.
const maxConfigBytes = 1 << 20

const envPrefix = "SEALMQ_"

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
	c := defaultConfig()
	path, explicit := configFile(cmd)
	var p problems
	for _, layer := range []struct {
		load func() (map[string]any, error)
		name func(key string) string
	}{
		{
			func() (map[string]any, error) { return readConfigFile(path, explicit) },
			func(key string) string { return path + ": " + key },
		},
		{
			func() (map[string]any, error) { return readEnv(os.Environ) },
			func(key string) string { return "environment " + envName(key) },
		},
		{
			func() (map[string]any, error) { return changedFlags(cmd), nil },
			func(key string) string { return "flag for " + key },
		},
	} {
		values, err := layer.load()
		if err != nil {
			return c, err
		}
		p = append(p, c.apply(values, layer.name)...)
	}
	if len(p) == 0 {
		return c, asConfigError(validate(&c))
	}
	// A key that could not be read still has its default, so the rest can be checked.
	if err := validate(&c); err != nil {
		p = append(p, flatten(err)...)
	}
	return c, asConfigError(errors.Join(p...))
}

func asConfigError(err error) error {
	return withHint(err, `"sealmq config example" prints every key with its meaning and default`)
}

// dataDir is the data folder of cmd, for commands that need nothing else of the
// configuration.
func dataDir(cmd *cobra.Command) (string, error) {
	c, err := clientConfig(cmd)
	return c.Data, err
}

// configFile is the file to read, and whether the user named it.
func configFile(cmd *cobra.Command) (path string, explicit bool) {
	if f := cmd.Flag("config"); f != nil && f.Changed {
		return f.Value.String(), true
	}
	if v := os.Getenv(envPrefix + "CONFIG"); v != "" {
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
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return nil, fmt.Errorf("read configuration %q: %w", path, err)
	}
	if len(b) > maxConfigBytes {
		return nil, fmt.Errorf("read configuration %q: larger than %v", path, Size(maxConfigBytes))
	}
	k := koanf.New(".")
	if err := k.Load(rawbytes.Provider(b), yaml.Parser()); err != nil {
		text := strings.TrimPrefix(strings.TrimPrefix(err.Error(), "yaml: "), "unmarshal errors:\n")
		return nil, fmt.Errorf("read configuration %q: %s", path, strings.Join(strings.Fields(text), " "))
	}
	return k.All(), nil
}

// readEnv maps SEALMQ_SERVER_MAX_CONNECTIONS to server.max_connections. A variable with
// the prefix that matches no key keeps its own name, so that a misspelling is reported. An
// empty variable counts as not set.
func readEnv(environ func() []string) (map[string]any, error) {
	names := make(map[string]string)
	for _, f := range (&Config{}).fields() {
		names[envName(f.key)] = f.key
	}
	k := koanf.New(".")
	err := k.Load(env.Provider("\x00", env.Opt{
		Prefix:      envPrefix,
		EnvironFunc: environ,
		TransformFunc: func(name, value string) (string, any) {
			if key, ok := names[name]; ok && value != "" {
				return key, value
			}
			if foreignEnv.MatchString(name) || value == "" {
				return "", nil
			}
			return name, value
		},
	}), nil)
	if err != nil {
		return nil, fmt.Errorf("read environment: %w", err)
	}
	return k.All(), nil
}

// foreignEnv matches variables that are no configuration keys: SEALMQ_CONFIG, the ones that
// "sealmq receive --exec" sets for its command, and the ones that Kubernetes sets in every
// container if a service is called sealmq.
var foreignEnv = regexp.MustCompile(`^SEALMQ_(CONFIG|MSG_.*|(.*_)?SERVICE_(HOST|PORT(_.*)?)|(.*_)?PORT(_[0-9]+_(TCP|UDP|SCTP)(_.*)?)?)$`)

func envName(key string) string {
	if strings.HasPrefix(key, envPrefix) {
		return key
	}
	return envPrefix + strings.ToUpper(strings.ReplaceAll(key, ".", "_"))
}

// configKeyAnnotation marks a flag that sets a configuration key.
const configKeyAnnotation = "sealmq_config_key"

// annotateConfigFlag makes f set a configuration key.
func annotateConfigFlag(f *pflag.Flag, key string) {
	if f.Annotations == nil {
		f.Annotations = make(map[string][]string)
	}
	f.Annotations[configKeyAnnotation] = []string{key}
}

// configFlag adds a flag to cmd that sets a configuration key. Its default is the default
// of the key. It overrides file and environment only if it is given.
func configFlag(cmd *cobra.Command, name, key, usage string) {
	c := defaultConfig()
	for _, f := range c.fields() {
		if f.key == key {
			cmd.Flags().String(name, fmt.Sprint(f.value.Interface()), usage)
			annotateConfigFlag(cmd.Flags().Lookup(name), key)
			return
		}
	}
	panic("sealmq: internal error: flag for unknown configuration key " + key)
}

func changedFlags(cmd *cobra.Command) map[string]any {
	values := make(map[string]any)
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if key := f.Annotations[configKeyAnnotation]; len(key) == 1 {
			values[key[0]] = f.Value.String()
		}
	})
	return values
}

// field is one key of the configuration with the place of its value.
type field struct {
	key   string
	value reflect.Value
}

// fields lists all keys of c in the order of their declaration.
func (c *Config) fields() []field {
	return appendFields(nil, "", reflect.ValueOf(c).Elem())
}

func appendFields(list []field, prefix string, v reflect.Value) []field {
	for i := range v.NumField() {
		key := prefix + v.Type().Field(i).Tag.Get("key")
		if v.Field(i).Kind() == reflect.Struct {
			list = appendFields(list, key+".", v.Field(i))
			continue
		}
		list = append(list, field{key, v.Field(i)})
	}
	return list
}

// apply sets the values of one layer. name gives a key's name in errors.
func (c *Config) apply(values map[string]any, name func(string) string) (p problems) {
	fields := make(map[string]reflect.Value)
	var known []string
	for _, f := range c.fields() {
		fields[f.key] = f.value
		known = append(known, f.key)
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		dst, ok := fields[key]
		if !ok {
			isSection := slices.ContainsFunc(known, func(k string) bool { return strings.HasPrefix(k, key+".") })
			switch {
			case isSection && isEmpty(values[key]):
				// A section whose keys are all commented out.
			case isSection:
				p.addf("%s: is a section and has no value of its own", name(key))
			default:
				p.addf("%s: unknown key%s", name(key), didYouMean(key, known))
			}
			continue
		}
		if err := setValue(dst, values[key]); err != nil {
			p.addf("%s: %w", name(key), err)
		}
	}
	return p
}

func isEmpty(v any) bool {
	m, ok := v.(map[string]any)
	return v == nil || ok && len(m) == 0
}

// setValue stores v, which comes from YAML or is a string of the environment or a flag.
func setValue(dst reflect.Value, v any) error {
	text, err := scalar(v)
	if err != nil {
		return err
	}
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

// didYouMean suggests the known key that is most like key.
func didYouMean(key string, known []string) string {
	best, bestDistance := "", 3
	for _, k := range known {
		short := k[strings.LastIndexByte(k, '.')+1:]
		for _, candidate := range []string{k, short, envName(k)} {
			if d := distance(key, candidate); d < bestDistance {
				best, bestDistance = k, d
				if candidate == envName(k) && strings.HasPrefix(key, envPrefix) {
					best = candidate
				}
			}
		}
	}
	if best == "" {
		return ""
	}
	return "; did you mean " + best + "?"
}

// distance is the Levenshtein distance: the number of letters to change, add or remove.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
