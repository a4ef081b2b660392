package mainserver

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"

	"github.com/sealmq/sealmq/api"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// maxFields bounds the fields that one answer complains about.
const maxFields = 20

// schemas hold requests against openapi.yaml, so that its limits stand in one place.
type schemas struct{ doc *openapi3.T }

// readSchemas reads them once, when a request first needs them: that takes as long as the rest of a
// start. Nothing changes them.
var readSchemas = sync.OnceValues(func() (*schemas, error) {
	document, err := api.Document(api.TagMain, "")
	if err != nil {
		return nil, err
	}
	// LoadFromData would read the document as YAML, which takes several times as long.
	doc := new(openapi3.T)
	err = json.Unmarshal(document, doc)
	if err == nil {
		err = openapi3.NewLoader().ResolveRefsIn(doc, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("read the description of the API: %w", err)
	}
	return &schemas{doc}, nil
})

// checkedMux adds generated routes that take only requests of the described form. The hot
// internal ones are left out: their entries are checked one by one.
type checkedMux struct {
	*httpkit.Mux
	operations map[string]api.Operation
}

// HandleFunc implements mainapi.ServeMux.
func (m *checkedMux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	method, path, _ := strings.Cut(pattern, " ")
	op, checked := m.operations[pattern], http.Handler(http.HandlerFunc(h))
	if (op.Parameters || op.Body) && (method == http.MethodGet || !strings.HasPrefix(path, "/api/v1/internal/messages/")) {
		checked = require(method, path, checked)
	}
	if op.Body {
		checked = httpkit.StrictJSON(checked)
	}
	m.Mux.HandleFunc(pattern, checked.ServeHTTP)
}

var _ mainapi.ServeMux = (*checkedMux)(nil)

// require answers requests that are not what the document says of an operation.
func require(method, path string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s, err := readSchemas()
		if err != nil {
			httpkit.WriteError(w, r, err)
			return
		}
		if fields := s.check(method, path, r); len(fields) > 0 {
			httpkit.WriteError(w, r, httpkit.Invalid(fields...))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// check says what is wrong with a request of an operation.
func (s *schemas) check(method, path string, r *http.Request) (fields []httpkit.Field) {
	item := s.doc.Paths.Value(path)
	route := &routers.Route{Spec: s.doc, Path: path, PathItem: item, Method: method, Operation: item.GetOperation(method)}
	in := &openapi3filter.RequestValidationInput{Request: r, Route: route, PathParams: make(map[string]string), QueryParams: r.URL.Query(),
		Options: &openapi3filter.Options{MultiError: true}}
	for _, p := range route.Operation.Parameters {
		value := r.URL.Query().Get(p.Value.Name)
		if p.Value.In == openapi3.ParameterInPath {
			value = r.PathValue(p.Value.Name)
			in.PathParams[p.Value.Name] = value
		}
		if !utf8.ValidString(value) {
			fields = append(fields, httpkit.Field{Type: "value_error", Loc: []any{p.Value.In, p.Value.Name}, Msg: "The value is not valid UTF-8"})
			continue
		}
		fields = append(fields, fieldsOf(openapi3filter.ValidateParameter(r.Context(), in, p.Value), nil)...)
	}
	if b := route.Operation.RequestBody; b != nil && len(fields) == 0 {
		in.Options.SkipSettingDefaults = true
		r.Header.Set("Content-Type", "application/json") // the router lets no other type in
		fields = fieldsOf(openapi3filter.ValidateRequestBody(r.Context(), in, b.Value), nil)
	}
	return fields
}

// bind checks an object against a schema of the document and reads it.
func bind(schema string, object map[string]any, to any) error {
	s, err := readSchemas()
	if err != nil {
		return err
	}
	if err := s.doc.Components.Schemas[schema].Value.VisitJSON(object, openapi3.VisitAsRequest(), openapi3.MultiErrors()); err != nil {
		return httpkit.Invalid(fieldsOf(err, []any{"body"})...)
	}
	data, err := json.Marshal(object)
	if err == nil {
		err = json.Unmarshal(data, to)
	}
	return err
}

// fieldsOf says in our form what a check has found. loc is where it looked.
func fieldsOf(err error, loc []any) (list []httpkit.Field) {
	var request *openapi3filter.RequestError
	var several openapi3.MultiError
	var schema *openapi3.SchemaError
	var parse *openapi3filter.ParseError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &request):
		loc := []any{"body"}
		if p := request.Parameter; p != nil {
			loc = []any{p.In, p.Name}
		}
		if errors.Is(request.Err, openapi3filter.ErrInvalidRequired) {
			return []httpkit.Field{{Type: "missing", Loc: loc, Msg: "Field required"}}
		}
		return fieldsOf(request.Err, loc)
	case errors.As(err, &several):
		for _, e := range several {
			list = append(list, fieldsOf(e, loc)...)
		}
		return list[:min(len(list), maxFields)]
	case errors.As(err, &schema):
		loc = append([]any(nil), loc...)
		for _, name := range schema.JSONPointer() {
			if i, err := strconv.Atoi(name); err == nil {
				loc = append(loc, i)
			} else {
				loc = append(loc, clipped(name))
			}
		}
		kind, msg := explain(schema)
		return []httpkit.Field{{Type: kind, Loc: loc, Msg: msg}}
	case errors.As(err, &parse):
		return []httpkit.Field{{Type: "int_parsing", Loc: loc, Msg: "The value must be a whole number"}}
	}
	return []httpkit.Field{{Type: "value_error", Loc: loc, Msg: "The value is not valid"}}
}

// clipped is a name that a peer chose, short enough to be repeated.
func clipped(name string) string {
	name = plain(name)
	if utf8.RuneCountInString(name) > 64 {
		return string([]rune(name)[:64])
	}
	return name
}

// kinds are the types of findings, by the rule that is broken.
var kinds = map[string]string{"required": "missing", "enum": "enum", "minimum": "greater_than_equal", "maximum": "less_than_equal",
	"minLength": "string_too_short", "maxLength": "string_too_long", "minItems": "too_short", "maxItems": "too_long"}

var types = map[string]string{openapi3.TypeString: "string_type", openapi3.TypeInteger: "int_type", openapi3.TypeBoolean: "bool_type",
	openapi3.TypeObject: "dict_type", openapi3.TypeArray: "list_type"}

// explain says what is wrong without the value.
func explain(e *openapi3.SchemaError) (kind, msg string) {
	kind = kinds[e.SchemaField]
	if kind == "missing" {
		return kind, "Field required"
	}
	s := e.Schema
	switch e.SchemaField {
	case "type", "nullable":
		if s.Type != nil {
			for name, k := range types {
				if s.Type.Is(name) {
					return k, "The value must be of the type " + name
				}
			}
		}
	case "enum":
		var words []string
		for _, v := range s.Enum {
			words = append(words, fmt.Sprint(v))
		}
		return kind, "The value must be one of " + strings.Join(words, ", ")
	case "minimum":
		return kind, fmt.Sprintf("The value must be %v or more", *s.Min)
	case "maximum":
		return kind, fmt.Sprintf("The value must be %v or less", *s.Max)
	case "minLength":
		return kind, fmt.Sprintf("The value must have %d characters or more", s.MinLength)
	case "maxLength":
		return kind, fmt.Sprintf("The value must have %d characters or fewer", *s.MaxLength)
	case "minItems":
		return kind, fmt.Sprintf("The list must have %d entries or more", s.MinItems)
	case "maxItems":
		return kind, fmt.Sprintf("The list must have %d entries or fewer", *s.MaxItems)
	case "pattern":
		return "value_error", wordsOf(s.Pattern)
	case "format":
		return "value_error", "The value must be a " + s.Format
	}
	return "value_error", "The value is not valid"
}
