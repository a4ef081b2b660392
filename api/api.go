// Package api is our HTTP API: openapi.yaml, from which the code in its subpackages is
// generated. Package proxyapi is what clients and proxies share, mainapi what the main
// server and its callers share; neither carries the other.
//
// It promises that the generated code is that of openapi.yaml, and that the operations of
// each tag are what Document shows.
//
// To change the API, change openapi.yaml and run go generate in this folder.
package api

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config proxyapi/oapi.yaml openapi.yaml
//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config mainapi/oapi.yaml openapi.yaml
//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config mainapi/client.yaml openapi.yaml

// The tags of the operations.
const (
	TagProxy = "proxy"
	TagMain  = "main"
)

//go:embed openapi.yaml
var source []byte

// whole is openapi.yaml as JSON, which takes a fraction of the time to read.
var whole = sync.OnceValues(func() ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(source, &doc); err != nil {
		return nil, fmt.Errorf("read openapi.yaml: %w", err)
	}
	return json.Marshal(doc)
})

// read reads openapi.yaml into a value.
func read(v any) error {
	data, err := whole()
	if err != nil {
		return err
	}
	numbers := json.NewDecoder(bytes.NewReader(data))
	numbers.UseNumber()
	return numbers.Decode(v)
}

// Document is the description of the operations that have a tag, as JSON, with the
// components that they use. version is that of the program.
func Document(tag, version string) ([]byte, error) {
	var doc map[string]any
	if err := read(&doc); err != nil {
		return nil, err
	}
	paths, _ := doc["paths"].(map[string]any)
	for path, item := range paths {
		operations, _ := item.(map[string]any)
		for method, operation := range operations {
			o, _ := operation.(map[string]any)
			if tags, _ := o["tags"].([]any); !slices.Contains(tags, any(tag)) {
				delete(operations, method)
				continue
			}
			o["tags"] = []any{tag}
		}
		if len(operations) == 0 {
			delete(paths, path)
		}
	}
	tags, _ := doc["tags"].([]any)
	doc["tags"] = slices.DeleteFunc(tags, func(t any) bool { m, _ := t.(map[string]any); return m["name"] != tag })
	if info, ok := doc["info"].(map[string]any); ok {
		info["title"] = fmt.Sprintf("%v %s", info["title"], tag)
		info["version"] = version
	}
	dropUnused(doc)
	removeExtensions(doc)
	return json.Marshal(doc)
}

// dropUnused takes out the components that no operation reaches.
func dropUnused(doc map[string]any) {
	components, _ := doc["components"].(map[string]any)
	used := make(map[string]bool)
	var visit func(v any)
	visit = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if ref, ok := v["$ref"].(string); ok && !used[ref] {
				used[ref] = true
				kind, name, _ := strings.Cut(strings.TrimPrefix(ref, "#/components/"), "/")
				named, _ := components[kind].(map[string]any)
				visit(named[name])
			}
			for _, child := range v {
				visit(child)
			}
		case []any:
			for _, child := range v {
				visit(child)
			}
		}
	}
	visit(doc["paths"])
	for kind, named := range components {
		if kind == "securitySchemes" {
			continue
		}
		list, _ := named.(map[string]any)
		for name := range list {
			if !used["#/components/"+kind+"/"+name] {
				delete(list, name)
			}
		}
		if len(list) == 0 {
			delete(components, kind)
		}
	}
}

// removeExtensions takes out what only the generator reads.
func removeExtensions(v any) {
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			if strings.HasPrefix(key, "x-") {
				delete(v, key)
				continue
			}
			removeExtensions(child)
		}
	case []any:
		for _, child := range v {
			removeExtensions(child)
		}
	}
}
