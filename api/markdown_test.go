package api

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/sealmq/sealmq/internal/httpkit"
)

var update = flag.Bool("update", false, "write docs/api.md")

// TestPageOfTheAPI holds docs/api.md equal to what openapi.yaml gives. -update writes it.
func TestPageOfTheAPI(t *testing.T) {
	d := describe(t)
	want := d.page()
	path := filepath.Join("..", "docs", "api.md")
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("docs/api.md is not what openapi.yaml gives: run go test ./api -run PageOfTheAPI -update (%v)", err)
	}
}

// TestCodesAgree: the table of errors has every code, with the status that it is sent with.
func TestCodesAgree(t *testing.T) {
	d := describe(t)
	code := d.get(d.root, "components", "schemas", "Problem", "properties", "code")
	for _, c := range d.get(code, "enum").Content {
		w := httptest.NewRecorder()
		httpkit.WriteError(w, httptest.NewRequest(http.MethodGet, "/api/v1/x", nil), httpkit.Errorf(httpkit.Code(c.Value), "x"))
		if status := d.text(code, "x-codes", c.Value, "status"); status != fmt.Sprint(w.Code) {
			t.Errorf("%s is sent with %d, and x-codes has %q", c.Value, w.Code, status)
		}
	}
}

// description is openapi.yaml with the order of its entries.
type description struct {
	*testing.T
	root  *yaml.Node
	shown map[string]bool // answers that several operations have
	bytes.Buffer
}

func describe(t *testing.T) *description {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(source, &doc); err != nil {
		t.Fatal(err)
	}
	return &description{T: t, root: doc.Content[0], shown: make(map[string]bool)}
}

// refer follows a reference.
func (d *description) refer(n *yaml.Node) *yaml.Node {
	if ref := d.text(n, "$ref"); ref != "" {
		return d.get(d.root, strings.Split(strings.TrimPrefix(ref, "#/"), "/")...)
	}
	return n
}

func (d *description) print(format string, args ...any) { fmt.Fprintf(d, format, args...) }

// get is a value at a path, references followed, or nil.
func (d *description) get(n *yaml.Node, path ...string) *yaml.Node {
	for _, name := range path {
		if n = d.child(n, name); n == nil {
			return nil
		}
	}
	return n
}

func (d *description) child(n *yaml.Node, name string) *yaml.Node {
	for key, value := range pairs(n) {
		if key == name {
			return d.refer(value)
		}
	}
	return nil
}

func (d *description) text(n *yaml.Node, path ...string) string {
	if v := d.get(n, path...); v != nil {
		return strings.TrimSpace(v.Value)
	}
	return ""
}

// pairs are the entries of a mapping in their order.
func pairs(n *yaml.Node) func(yield func(string, *yaml.Node) bool) {
	return func(yield func(string, *yaml.Node) bool) {
		if n == nil || n.Kind != yaml.MappingNode {
			return
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			if !yield(n.Content[i].Value, n.Content[i+1]) {
				return
			}
		}
	}
}

const intro = `# The HTTP API

The routes of proxy and main server by task, with an example of each. The page is made from [openapi.yaml](../api/openapi.yaml), which servers
show to programs as ` + "`/openapi.json`" + ` and to people as ` + "`/docs`" + `. The paths and forms of the design documents, such as ` + "`POST /submit`" + `, are in
[compatibility.md](compatibility.md). [pipeline.md](pipeline.md) has the first steps.

` + "```" + `sh
sealmq serve > node.log 2>&1 &
sleep 1
sealmq cert issue acme-01
cd sealmq-data/certs
curl --fail --cert acme-01.crt --key acme-01.key --cacert ca.crt https://localhost:8001/api/v1/messages \
     -H "Content-Type: application/json" -d '{"sender_number": "+4915200000000", "message_body": "Test message"}'

curl --fail --cert admin.crt --key admin.key --cacert ca.crt 'https://localhost:8000/api/v1/messages?status=failed&limit=10'
` + "```" + `

The proxy listens on 8001, the main server on 8000. Every connection is mutual TLS: show the certificate that the authority has issued, and
accept only servers of that authority. "Administrators" are certificates of the role admin and accounts of that role, which send the token of
their login in the header ` + "`Authorization: Bearer`" + `; [accounts.md](accounts.md) has the roles.

Bodies are JSON in UTF-8. Times that are sent are RFC 3339 in UTC, with ` + "`Z`" + `; times that are received may have an offset. Lists have ` + "`limit`" + ` and
` + "`cursor`" + `: ask again with the ` + "`next_cursor`" + ` of a page, and the page without one is the last. A count stops at 10,000, and ` + "`exact`" + ` tells.
`

func (d *description) page() string {
	d.WriteString(intro)
	d.print("\n| task | routes |\n| --- | --- |\n")
	tasks := d.tasks()
	for _, t := range tasks {
		d.print("| [%s](#%s) |", t.title, anchor(t.title))
		for i, o := range t.operations {
			d.print("%s `%s %s`", []string{"", "<br>"}[min(i, 1)], o.method, o.path)
		}
		d.print(" |\n")
	}
	d.print("| [Errors](#errors) | |\n| [Types](#types) | |\n")
	for _, t := range tasks {
		d.print("\n## %s\n", t.title)
		for _, o := range t.operations {
			d.operation(&o)
		}
	}
	d.errors()
	d.types()
	return d.String()
}

type task struct {
	name, title string
	callers     *yaml.Node
	operations  []route
}

type route struct {
	method, path, who string
	*yaml.Node
}

// tasks are the tags behind those of the servers, with the operations that have them.
func (d *description) tasks() (list []task) {
	for _, tag := range d.get(d.root, "tags").Content {
		name := d.text(tag, "name")
		if name == TagProxy || name == TagMain {
			continue
		}
		t := task{name: name, title: d.text(tag, "description"), callers: d.get(tag, "x-callers")}
		for path, item := range pairs(d.get(d.root, "paths")) {
			for method, o := range pairs(item) {
				tags := d.get(o, "tags").Content
				if tags[len(tags)-1].Value == name {
					t.operations = append(t.operations, route{strings.ToUpper(method), path, d.who(o, t.callers), o})
				}
			}
		}
		list = append(list, t)
	}
	return list
}

var plurals = map[string]string{"admin": "administrators", "proxy": "proxies", "worker": "workers", "server": "brokers", "operator": "operators", "user_manager": "user managers", "user": "users", "account": "everybody with an account"}

// who may call an operation, in words.
func (d *description) who(o, callers *yaml.Node) string {
	if own := d.get(o, "x-callers"); own != nil {
		callers = own
	}
	switch {
	case len(d.get(o, "security").Content) == 0:
		return "everybody, also without a certificate"
	case callers == nil:
		return "everybody with a certificate or an API key"
	}
	var words []string
	for _, c := range callers.Content {
		words = append(words, plurals[c.Value])
	}
	if n := len(words) - 1; n > 0 {
		return strings.Join(words[:n], ", ") + " and " + words[n]
	}
	return words[0]
}

func anchor(title string) string {
	return strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(title))
}

func (d *description) operation(o *route) {
	d.print("\n### %s\n\n`%s %s` · %s\n", d.text(o.Node, "summary"), o.method, o.path, o.who)
	if s := d.text(o.Node, "description"); s != "" {
		d.print("\n%s\n", s)
	}
	if list := d.get(o.Node, "parameters"); list != nil {
		d.print("\n| parameter | in | type | meaning |\n| --- | --- | --- | --- |\n")
		for _, p := range list.Content {
			p = d.refer(p)
			d.print("| `%s` | %s | %s | %s |\n", d.text(p, "name"), d.text(p, "in"), cell(words(d.child(p, "schema"))), cell(d.text(p, "description")))
		}
	}
	if body := d.get(o.Node, "requestBody", "content", "application/json", "schema"); body != nil {
		d.print("\nRequest:\n\n```json\n%s\n```\n", d.example(o.path, body))
	}
	for status, raw := range pairs(d.get(o.Node, "responses")) {
		answer := d.refer(raw)
		if status == "default" || status == "503" {
			continue
		}
		d.print("\nAnswer %s: %s\n", status, d.text(answer, "description"))
		if ref := d.text(raw, "$ref"); ref != "" {
			if d.shown[ref] {
				d.print("\nThe form is the same as above.\n")
				continue
			}
			d.shown[ref] = true
		}
		if schema := d.get(answer, "content", "application/json", "schema"); schema != nil {
			d.print("\n```json\n%s\n```\n", d.example(o.path, schema))
		}
	}
}

// example is a value of a type: what it requires, and what has an example of its own.
func (d *description) example(where string, schema *yaml.Node) string {
	var out bytes.Buffer
	if err := json.Indent(&out, []byte(d.sample(where, schema)), "", "  "); err != nil {
		d.Fatalf("%s: %v", where, err)
	}
	return out.String()
}

func (d *description) sample(where string, schema *yaml.Node) string {
	if e := d.get(schema, "example"); e != nil {
		return literal(e)
	}
	if enum := d.get(schema, "enum"); enum != nil {
		return literal(enum.Content[0])
	}
	members := d.members(schema)
	switch d.text(schema, "type") {
	case "array":
		return "[" + d.sample(where, d.get(schema, "items")) + "]"
	case "integer", "number":
		return "0"
	case "boolean":
		return "false"
	case "string":
		d.Errorf("%s: a required text in an example has no example", where)
	}
	var list []string
	for _, m := range members {
		if m.required || d.get(m.schema, "example") != nil {
			list = append(list, fmt.Sprintf("%q: %s", m.name, d.sample(where+" "+m.name, m.schema)))
		}
	}
	return "{" + strings.Join(list, ", ") + "}"
}

type field struct {
	name        string
	required    bool
	schema, raw *yaml.Node
}

// members are the properties of an object, those that it takes over first.
func (d *description) members(schema *yaml.Node) (list []field) {
	if all := d.get(schema, "allOf"); all != nil {
		for _, part := range all.Content {
			list = append(list, d.members(d.refer(part))...)
		}
		return list
	}
	required := make(map[string]bool)
	if names := d.get(schema, "required"); names != nil {
		for _, n := range names.Content {
			required[n.Value] = true
		}
	}
	properties := d.get(schema, "properties")
	for name, raw := range pairs(properties) {
		list = append(list, field{name, required[name], d.get(properties, name), raw})
	}
	return list
}

// literal is a value of YAML as JSON, in its order.
func literal(n *yaml.Node) string {
	var list []string
	switch n.Kind {
	case yaml.MappingNode:
		for key, value := range pairs(n) {
			list = append(list, fmt.Sprintf("%q: %s", key, literal(value)))
		}
		return "{" + strings.Join(list, ", ") + "}"
	case yaml.SequenceNode:
		for _, v := range n.Content {
			list = append(list, literal(v))
		}
		return "[" + strings.Join(list, ", ") + "]"
	}
	var v any
	if err := n.Decode(&v); err != nil {
		panic(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (d *description) errors() {
	d.print("\n## Errors\n\nEvery error is `application/problem+json` (RFC 9457). Programs decide by `code`; `detail` is for people and may change. \"Retry\" means that the same\n"+
		"request may succeed later.\n\n```json\n%s\n```\n\n", d.example("Problem", d.get(d.root, "components", "schemas", "Problem")))
	d.print("| code | status | retry | meaning, and what to do |\n| --- | --- | --- | --- |\n")
	for code, e := range pairs(d.get(d.root, "components", "schemas", "Problem", "properties", "code", "x-codes")) {
		d.print("| `%s` | %s | %s | %s |\n", code, d.text(e, "status"), d.text(e, "retry"), d.text(e, "meaning"))
	}
}

func (d *description) types() {
	d.print("\n## Types\n\nA field in bold is always there. An object may get further fields in a later version: ignore those that you do not know.\n")
	for name, schema := range pairs(d.get(d.root, "components", "schemas")) {
		members := d.members(schema)
		if len(members) == 0 {
			continue
		}
		d.print("\n### %s\n", name)
		if s := d.text(schema, "description"); s != "" {
			d.print("\n%s\n", s)
		}
		d.print("\n| field | type | meaning |\n| --- | --- | --- |\n")
		for _, m := range members {
			label := "`" + m.name + "`"
			if m.required {
				label = "**" + label + "**"
			}
			description := d.text(m.raw, "description")
			if description == "" && d.text(m.raw, "$ref") != "" && len(d.members(m.schema)) == 0 {
				description = words(m.schema)
			}
			d.print("| %s | %s | %s |\n", label, cell(words(m.raw)), cell(description))
		}
	}
}

// words is a type as the page of the servers has it.
func words(schema *yaml.Node) string {
	var v any
	if err := schema.Decode(&v); err != nil {
		panic(err)
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var t typeOf
	if err := json.Unmarshal(b, &t); err != nil {
		panic(err)
	}
	pattern := t.Pattern
	t.Pattern = ""
	if pattern == "" {
		return t.String()
	}
	return t.String() + ", `" + pattern + "`"
}

// cell is a text that a table can hold.
func cell(s string) string { return strings.NewReplacer("|", "\\|", "\n", " ").Replace(s) }
