package ui

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// object is a part of the file.
type object = map[string]any

// AsyncAPI reads docs/asyncapi.yaml.
func AsyncAPI(t testing.TB) object {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "docs", "asyncapi.yaml"))
	require.NoError(t, err)
	var doc object
	require.NoError(t, yaml.Unmarshal(b, &doc))
	return doc
}

// Part finds a part of the file: "components/messages/hello".
func Part(t testing.TB, doc object, path string) object {
	t.Helper()
	for name := range strings.SplitSeq(path, "/") {
		next, ok := doc[name].(object)
		require.True(t, ok, "no %s in the file (%s)", name, path)
		doc = next
	}
	return doc
}

func names(m object) []string { return slices.Sorted(maps.Keys(m)) }

// Every $ref of the file leads somewhere, and every message is sent by somebody.
func TestAsyncAPIIsWhole(t *testing.T) {
	doc := AsyncAPI(t)
	require.Equal(t, "3.0.0", doc["asyncapi"])
	refs := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case object:
			if ref, ok := v["$ref"].(string); ok {
				Part(t, doc, strings.TrimPrefix(ref, "#/"))
				refs++
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	walk(doc)
	require.Greater(t, refs, 30)
	page := slices.Sorted(maps.Keys(fieldsOf))
	agent := []string{"delta", "result", "snapshot", "tick"}
	for operation, want := range map[string][]string{"fromPage": page, "toPage": agent} {
		var got []string
		for _, m := range Part(t, doc, "operations/"+operation)["messages"].([]any) {
			got = append(got, strings.TrimPrefix(m.(object)["$ref"].(string), "#/channels/screen/messages/"))
		}
		slices.Sort(got)
		require.Equal(t, want, got)
	}
	all := slices.Sorted(slices.Values(append(page, agent...)))
	require.Equal(t, all, names(Part(t, doc, "channels/screen/messages")))
	require.Equal(t, all, names(Part(t, doc, "components/messages")))
}

// The frames' fields, and which must be there.
func TestAsyncAPINamesEveryField(t *testing.T) {
	doc := AsyncAPI(t)
	for frame, fields := range fieldsOf {
		payload := Part(t, doc, "components/messages/"+frame+"/payload")
		require.Equal(t, slices.Sorted(maps.Keys(fields)), names(Part(t, payload, "properties")), frame)
		var must []string
		for name, need := range fields {
			if need {
				must = append(must, name)
			}
		}
		var said []string
		for _, r := range payload["required"].([]any) {
			said = append(said, r.(string))
		}
		require.ElementsMatch(t, must, said, frame)
	}
	for frame, of := range map[string]reflect.Type{
		"delta": reflect.TypeFor[stateFrame](), "result": reflect.TypeFor[resultFrame](), "tick": reflect.TypeFor[tickFrame](),
	} {
		require.Equal(t, jsonNames(of), names(Part(t, doc, "components/messages/"+frame+"/payload/properties")), frame)
	}
	seen := map[string]bool{}
	var walk func(name string, of reflect.Type)
	walk = func(name string, of reflect.Type) {
		seen[name] = true
		properties := Part(t, doc, "components/schemas/"+name+"/properties")
		require.Equal(t, jsonNames(of), names(properties), name)
		for i := range of.NumField() {
			f := of.Field(i)
			is := f.Type
			for is.Kind() == reflect.Pointer || is.Kind() == reflect.Slice {
				is = is.Elem()
			}
			p := properties[tagOf(f)].(object)
			if items, ok := p["items"].(object); ok {
				p = items
			}
			if ref, ok := p["$ref"].(string); ok || is.Kind() == reflect.Struct {
				require.Equal(t, reflect.Struct, is.Kind(), "%s.%s", name, f.Name)
				walk(strings.TrimPrefix(ref, "#/components/schemas/"), is)
				continue
			}
			want := map[reflect.Kind]string{reflect.String: "string", reflect.Bool: "boolean", reflect.Map: "object"}[is.Kind()]
			if want == "" {
				want = "integer"
			}
			require.Equal(t, want, p["type"], "%s.%s", name, f.Name)
		}
	}
	topics := map[string]reflect.Type{
		topicSession: reflect.TypeFor[sessionDoc](), topicRequest: reflect.TypeFor[requestDoc](), topicNetwork: reflect.TypeFor[networkDoc](),
		topicCooldown: reflect.TypeFor[cooldownDoc](), topicHealth: reflect.TypeFor[healthDoc](), topicOperator: reflect.TypeFor[operatorDoc](),
	}
	require.Equal(t, slices.Sorted(maps.Keys(topics)), names(Part(t, doc, "components/schemas/topics/properties")))
	for name, of := range topics {
		walk(name, of)
	}
	for _, other := range []string{"topics", "commands", "resultCode", "closeCode"} {
		seen[other] = true
	}
	require.Equal(t, slices.Sorted(maps.Keys(seen)), names(Part(t, doc, "components/schemas")), "a schema of nothing")
}

func tagOf(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func jsonNames(of reflect.Type) (all []string) {
	for i := range of.NumField() {
		if f := of.Field(i); f.Anonymous {
			all = append(all, jsonNames(f.Type)...)
		} else {
			all = append(all, tagOf(f))
		}
	}
	slices.Sort(all)
	return all
}

func TestAsyncAPINamesEveryCommand(t *testing.T) {
	doc := AsyncAPI(t)
	commands := Part(t, doc, "components/schemas/commands/properties")
	require.Equal(t, slices.Sorted(maps.Keys(commandTable)), names(commands))
	for name, c := range commandTable {
		said, _ := commands[name].(object)["properties"].(object)
		_, free := commands[name].(object)["additionalProperties"]
		require.Equal(t, c.Fields, free, name)
		var args []string
		for _, a := range c.Args {
			args = append(args, a.Name)
			require.Equal(t, a.Secret, said[a.Name].(object)["format"] == "password", "%s.%s: what is secret says so", name, a.Name)
		}
		require.ElementsMatch(t, args, names(said), name)
	}
}

// Codes in the file, in docs/protocol-ui.md and in the program are the same.
func TestAsyncAPINamesEveryCode(t *testing.T) {
	doc := AsyncAPI(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol-ui.md"))
	require.NoError(t, err)
	var codes []string
	for _, file := range []string{"commands.go", "operator_desk.go"} {
		for _, code := range prefixed(t, file, "code") {
			codes = append(codes, code)
			require.Contains(t, string(text), "`"+code+"`")
		}
	}
	var said []string
	for _, c := range Part(t, doc, "components/schemas/resultCode")["enum"].([]any) {
		said = append(said, c.(string))
	}
	require.ElementsMatch(t, codes, said)

	var closes []int
	for _, c := range Part(t, doc, "components/schemas/closeCode")["oneOf"].([]any) {
		closes = append(closes, c.(object)["const"].(int))
	}
	require.ElementsMatch(t, []int{closeGoing, closeBinary, closeUTF8, websocket.CloseMessageTooBig, closeRestart, closeToken, closeFrame, closeOther}, closes)
	for _, c := range closes {
		require.Contains(t, string(text), strconv.Itoa(c))
	}
}

// prefixed reads the string constants of a file whose names begin so.
func prefixed(t *testing.T, file, prefix string) (values []string) {
	t.Helper()
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	require.NoError(t, err)
	for _, d := range tree.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			lit, ok := v.Values[0].(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING || !strings.HasPrefix(v.Names[0].Name, prefix) {
				continue
			}
			text, err := strconv.Unquote(lit.Value)
			require.NoError(t, err)
			values = append(values, text)
		}
	}
	require.NotEmpty(t, values)
	return values
}

// Holds validates a value against a schema of the file, as far as the file goes:
// types, required and unknown properties, constants and choices.
func Holds(t testing.TB, doc, schema object, v any, at string) {
	t.Helper()
	if ref, ok := schema["$ref"].(string); ok {
		schema = Part(t, doc, strings.TrimPrefix(ref, "#/"))
	}
	if of, ok := schema["oneOf"].([]any); ok {
		if v == nil {
			require.Equal(t, "null", of[0].(object)["type"], at)
			return
		}
		Holds(t, doc, of[1].(object), v, at)
		return
	}
	if want, ok := schema["const"]; ok {
		require.Equal(t, want, v, at)
		return
	}
	switch schema["type"] {
	case "string":
		require.IsType(t, "", v, at)
	case "boolean":
		require.IsType(t, true, v, at)
	case "integer":
		n, ok := v.(json.Number)
		require.True(t, ok, "%s: %v", at, v)
		_, err := n.Int64()
		require.NoError(t, err, at)
	case "array":
		list, ok := v.([]any)
		require.True(t, ok, "%s: %v", at, v)
		for _, x := range list {
			Holds(t, doc, schema["items"].(object), x, at+"[]")
		}
	case "object":
		holdsObject(t, doc, schema, v, at)
	default:
		t.Fatalf("%s: the file says nothing of its type", at)
	}
}

func holdsObject(t testing.TB, doc, schema object, v any, at string) {
	t.Helper()
	m, ok := v.(object)
	require.True(t, ok, "%s: %v", at, v)
	required, _ := schema["required"].([]any)
	for _, r := range required {
		require.Contains(t, m, r, at)
	}
	properties, _ := schema["properties"].(object)
	for name, x := range m {
		is, ok := properties[name].(object)
		if !ok {
			is, ok = schema["additionalProperties"].(object)
		}
		require.True(t, ok, "%s.%s is not in the file", at, name)
		if x == nil && at != "" && (name == "qr" || name == "links") {
			continue // said in words
		}
		Holds(t, doc, is, x, at+"."+name)
	}
}
