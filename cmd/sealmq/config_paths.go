package main

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
)

// placePaths makes the relative paths of a configuration file, which has values, relative to
// its folder. Earlier versions took them as relative to the folder of the process. Where both
// differ and only that one has something, it is an error: a node must not begin anew beside
// its data.
func (c *Config) placePaths(dir string, values map[string]any) (p problems) {
	if dir == "." {
		return nil
	}
	for _, f := range c.fields() {
		if _, ok := values[f.key]; !ok || f.value.String() == "" {
			continue
		}
		prefix, path := "", f.value.String()
		switch kind, _, _ := strings.Cut(f.check, "|"); {
		case f.key == "main.database":
			var ok bool
			if path, ok = strings.CutPrefix(path, "sqlite:"); !ok {
				continue
			}
			prefix, path = "sqlite:", strings.TrimPrefix(path, "///")
		case kind != "folder" && kind != "path", strings.HasSuffix(f.check, "|"+path):
			continue
		}
		if filepath.IsAbs(path) {
			continue
		}
		placed := filepath.Join(dir, path)
		if exists(path) && !exists(placed) {
			p.addf("%s: %s is relative to the folder of the configuration file and means %s, which does not exist, but there is one in the current folder; write the whole path", f.key, path, placed)
		}
		f.value.SetString(prefix + placed)
	}
	return p
}

// hideURL replaces the password of an address.
func hideURL(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	at := strings.LastIndex(rest, "@")
	if user, _, secret := strings.Cut(rest[:max(at, 0)], ":"); ok && secret {
		return fmt.Sprintf("%s://%s:***%s", scheme, user, rest[at:])
	}
	return s
}

// shown is the value of a setting without what is secret in it.
func (f field) shown() string {
	text := fmt.Sprint(f.value.Interface())
	switch f.key {
	case "main.database":
		return hideURL(text)
	case "redis.password":
		if text != "" {
			return "***"
		}
	case "alerts.webhook": // its path can be a secret
		if u, err := url.Parse(text); err == nil && u.Host != "" {
			return u.Scheme + "://" + u.Host + "/***"
		}
	}
	return text
}
