package api

import (
	"slices"
	"strconv"
	"strings"
)

// Operation is what servers need to know of an operation before they can answer it.
type Operation struct {
	// Task is the tag of its task: messages, accounts, …
	Task string
	// Callers are the roles that may. It has "account" for operations of everybody who is logged
	// in, and is empty for those of everybody with a certificate or a key.
	Callers []string
	// Public says that nobody has to be known.
	Public bool
	// Parameters and Body say what a request may have.
	Parameters, Body bool
	// Success is the usual status.
	Success int
}

// Operations are those with a tag by their pattern, for example "GET /health".
func Operations(tag string) (map[string]Operation, error) {
	var doc struct {
		Tags []struct {
			Name    string
			Callers []string `json:"x-callers"`
		}
		Paths map[string]map[string]struct {
			Tags        []string
			Callers     []string `json:"x-callers"`
			Security    []any
			Parameters  []any
			RequestBody any
			Responses   map[string]any
		}
	}
	if err := read(&doc); err != nil {
		return nil, err
	}
	callers := make(map[string][]string)
	for _, t := range doc.Tags {
		callers[t.Name] = t.Callers
	}
	list := make(map[string]Operation)
	for path, item := range doc.Paths {
		for method, o := range item {
			if !slices.Contains(o.Tags, tag) {
				continue
			}
			op := Operation{Task: o.Tags[len(o.Tags)-1], Callers: o.Callers, Public: len(o.Security) == 0, Parameters: len(o.Parameters) > 0, Body: o.RequestBody != nil}
			if op.Callers == nil {
				op.Callers = callers[op.Task]
			}
			for status := range o.Responses {
				if n, err := strconv.Atoi(status); err == nil && n < 300 && (op.Success == 0 || n < op.Success) {
					op.Success = n
				}
			}
			list[strings.ToUpper(method)+" "+path] = op
		}
	}
	return list, nil
}
