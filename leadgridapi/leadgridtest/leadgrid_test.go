package leadgridtest_test

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/leadgrid-sync/leadgrid-sync/leadgridapi/leadgridtest"
)

// pdf is the smallest thing LeadGrid takes for a CV.
var pdf = []byte("%PDF-1.4\n%%EOF\n")

// leadgrid is a server under test and a caller that reads nothing into what it answers.
type leadgrid struct {
	*leadgridtest.Server
	t   *testing.T
	key string
}

func start(t *testing.T, opts leadgridtest.Options) *leadgrid {
	t.Helper()
	s := leadgridtest.New(opts)
	t.Cleanup(s.Close)
	return &leadgrid{s, t, s.Key()}
}

func habits(h leadgridtest.Habits) leadgridtest.Options {
	return leadgridtest.Options{Settings: leadgridtest.Settings{Habits: h}}
}

// got is an answer.
type got struct {
	status int
	header http.Header
	raw    string
	body   map[string]any
	err    error
}

func (g got) data() map[string]any { data, _ := g.body["data"].(map[string]any); return data }

func (g got) meta(key string) string {
	meta, _ := g.body["meta"].(map[string]any)
	n, _ := meta[key].(json.Number)
	return n.String()
}

func (g got) code() string {
	e, _ := g.body["error"].(map[string]any)
	code, _ := e["code"].(string)
	return code
}

// rows are the values of one key in a list's rows.
func (g got) rows(key string) []string {
	list, _ := g.body["data"].([]any)
	values := make([]string, len(list))
	for i, row := range list {
		values[i], _ = row.(map[string]any)[key].(string)
	}
	return values
}

// call sends a request; the body is nil, a map sent as JSON, or bytes sent as they are.
func (l *leadgrid) call(method, path string, body any, header ...string) got {
	l.t.Helper()
	var reader io.Reader
	contentType := "application/json"
	switch b := body.(type) {
	case nil:
	case []byte:
		reader, contentType = bytes.NewReader(b), "application/pdf"
	case string:
		reader = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			l.t.Fatal(err)
		}
		reader = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(l.t.Context(), method, l.URL()+path, reader)
	if err != nil {
		l.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+l.key)
	request.Header.Set("Content-Type", contentType)
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	return l.send(request)
}

func (l *leadgrid) send(request *http.Request) got {
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return got{err: err}
	}
	defer response.Body.Close()
	raw, err := io.ReadAll(response.Body)
	g := got{status: response.StatusCode, header: response.Header, raw: string(raw), err: err}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	decoder.Decode(&g.body)
	return g
}

// want is call for a test that wants one status.
func (l *leadgrid) want(status int, method, path string, body any, header ...string) got {
	l.t.Helper()
	g := l.call(method, path, body, header...)
	if g.status != status || g.err != nil {
		l.t.Fatalf("%s %s: got %d %s (%v), want %d", method, path, g.status, g.raw, g.err, status)
	}
	return g
}

// create makes a dossier over HTTP and returns its id.
func (l *leadgrid) create(fields map[string]any) string {
	l.t.Helper()
	return l.want(201, "POST", "/dossiers", fields).data()["id"].(string)
}

// form is a multipart body with fields and, unless nil, a cv.
func form(t *testing.T, fields map[string]string, cv []byte) (body string, contentType string) {
	t.Helper()
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	for key, value := range fields {
		w.WriteField(key, value)
	}
	if cv != nil {
		part, err := w.CreateFormFile("cv", "cv.pdf")
		if err != nil {
			t.Fatal(err)
		}
		part.Write(cv)
	}
	w.Close()
	return buf.String(), w.FormDataContentType()
}

func at(parts ...string) string {
	path := ""
	for _, part := range parts {
		path += "/" + url.PathEscape(part)
	}
	return path
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

type object = map[string]any
