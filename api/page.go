package api

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

var (
	//go:embed page.html
	pageSource string
	//go:embed page.css
	pageStyle string
)

// operation is one as the page shows it.
type operation struct {
	Method, Path string
	Summary      string
	Description  string
	Parameters   []property
	Body         string
	Answers      []answer
}

type property struct {
	Name, In, Type, Description string
	Required                    bool
}

type answer struct{ Status, Description, Type string }

type schema struct {
	Name, Description string
	Properties        []property
}

// Page is a Document as HTML, with the policy that it is to be sent with: it needs nothing from
// anywhere and runs no script.
func Page(description []byte) (html []byte, policy string, err error) {
	var doc document
	if err := json.Unmarshal(description, &doc); err != nil {
		return nil, "", err
	}
	t, err := template.New("page").Funcs(template.FuncMap{"prose": prose, "inline": inline}).Parse(pageSource)
	if err != nil {
		return nil, "", err
	}
	var out bytes.Buffer
	err = t.Execute(&out, map[string]any{"Info": doc.Info, "Style": template.CSS(pageStyle), "Operations": doc.operations(), "Schemas": doc.schemas()})
	sum := sha256.Sum256([]byte(pageStyle))
	policy = fmt.Sprintf("default-src 'none'; style-src 'sha256-%s'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", base64.StdEncoding.EncodeToString(sum[:]))
	return out.Bytes(), policy, err
}

// Of Markdown, descriptions have paragraphs, **words** and `code`.
var (
	strong = regexp.MustCompile(`\*\*(.+?)\*\*`)
	code   = regexp.MustCompile("`([^`]+)`")
)

// inline is a description of one paragraph as HTML.
func inline(text string) template.HTML {
	html := template.HTMLEscapeString(text)
	return template.HTML(strong.ReplaceAllString(code.ReplaceAllString(html, "<code>$1</code>"), "<strong>$1</strong>")) // escaped
}

// prose is a description as HTML, with its paragraphs.
func prose(text string) (html template.HTML) {
	for paragraph := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		if paragraph != "" {
			html += "<p>" + inline(paragraph) + "</p>\n"
		}
	}
	return html
}

// document is what the page reads of one.
type document struct {
	Info       struct{ Title, Version, Description string }
	Paths      map[string]map[string]rawOperation
	Components struct {
		Schemas    map[string]typeOf
		Parameters map[string]rawParameter
		Responses  map[string]rawResponse
	}
}

type rawOperation struct {
	Summary, Description string
	Parameters           []rawParameter
	RequestBody          struct{ Content map[string]media }
	Responses            map[string]rawResponse
}

type rawParameter struct {
	Ref                   string `json:"$ref"`
	Name, In, Description string
	Required              bool
	Schema                typeOf
}

type rawResponse struct {
	Ref         string `json:"$ref"`
	Description string
	Content     map[string]media
}

type media struct{ Schema typeOf }

type typeOf struct {
	Ref                  string `json:"$ref"`
	Type, Format         string
	Description, Pattern string
	Enum                 []any
	Items                *typeOf
	Properties           map[string]typeOf
	Required             []string
	Minimum, Maximum     *float64
	MinLength, MaxLength *int
	MaxItems             *int
	Default              any
}

func refName(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// String is the type in words.
func (t typeOf) String() string {
	switch {
	case t.Ref != "":
		return refName(t.Ref)
	case t.Type == "array" && t.Items != nil:
		return "list of " + t.Items.String()
	case len(t.Enum) > 0:
		words := make([]string, len(t.Enum))
		for i, v := range t.Enum {
			words[i] = fmt.Sprint(v)
		}
		return strings.Join(words, " | ")
	}
	s := cmp.Or(t.Format, t.Type)
	if t.MinLength != nil || t.MaxLength != nil {
		s += ", " + bounds(t.MinLength, t.MaxLength) + " characters"
	}
	if t.Minimum != nil || t.Maximum != nil {
		s += ", " + bounds(t.Minimum, t.Maximum)
	}
	if t.MaxItems != nil {
		s += fmt.Sprintf(", at most %d", *t.MaxItems)
	}
	if t.Pattern != "" {
		s += ", " + t.Pattern
	}
	if t.Default != nil {
		s += fmt.Sprintf(", default %v", t.Default)
	}
	return s
}

func bounds[T int | float64](low, high *T) string {
	number := func(v *T) string { return strconv.FormatFloat(float64(*v), 'f', -1, 64) }
	switch {
	case low == nil:
		return "at most " + number(high)
	case high == nil:
		return "at least " + number(low)
	}
	return number(low) + " to " + number(high)
}

func contentType(content map[string]media) string {
	for _, m := range content {
		if s := m.Schema.String(); s != "" {
			return s
		}
	}
	return ""
}

func (d *document) operations() (list []operation) {
	for path, methods := range d.Paths {
		for method, raw := range methods {
			o := operation{Method: strings.ToUpper(method), Path: path, Summary: raw.Summary, Description: raw.Description, Body: contentType(raw.RequestBody.Content)}
			for _, p := range raw.Parameters {
				if p.Ref != "" {
					p = d.Components.Parameters[refName(p.Ref)]
				}
				o.Parameters = append(o.Parameters, property{p.Name, p.In, p.Schema.String(), p.Description, p.Required})
			}
			for status, r := range raw.Responses {
				if r.Ref != "" {
					r = d.Components.Responses[refName(r.Ref)]
				}
				o.Answers = append(o.Answers, answer{status, r.Description, contentType(r.Content)})
			}
			slices.SortFunc(o.Answers, func(a, b answer) int { return cmp.Compare(a.Status, b.Status) })
			list = append(list, o)
		}
	}
	slices.SortFunc(list, func(a, b operation) int { return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Method, b.Method)) })
	return list
}

func (d *document) schemas() (list []schema) {
	for name, t := range d.Components.Schemas {
		s := schema{Name: name, Description: t.Description}
		for n, p := range t.Properties {
			s.Properties = append(s.Properties, property{Name: n, Type: p.String(), Description: p.Description, Required: slices.Contains(t.Required, n)})
		}
		slices.SortFunc(s.Properties, func(a, b property) int { return cmp.Compare(a.Name, b.Name) })
		if len(s.Properties) == 0 {
			s.Description = strings.TrimSpace(s.Description + " " + t.String())
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b schema) int { return cmp.Compare(a.Name, b.Name) })
	return list
}
