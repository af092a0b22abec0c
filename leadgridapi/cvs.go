package leadgridapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
)

// MaxCV is the size of the largest CV LeadGrid takes. "10 MB" is read as MiB
// here, which leaves what lies between the two for LeadGrid to judge.
const MaxCV = 10 << 20

// A CV is a PDF file.
type CV struct {
	Filename string // "cv.pdf" if empty
	Data     []byte
}

// check refuses what LeadGrid would, before megabytes are sent.
func (cv CV) check() error {
	if !bytes.HasPrefix(cv.Data, []byte("%PDF-")) {
		return fmt.Errorf("%w: the CV is not a PDF", ErrInvalidInput)
	}
	if len(cv.Data) > MaxCV {
		return fmt.Errorf("%w: the CV is larger than %d MiB", ErrInvalidInput, MaxCV>>20)
	}
	return nil
}

// UploadCV attaches a CV to a dossier, in place of the previous one.
// Scope: dossiers:write.
//
// LeadGrid does not document its answer. If that holds an object, it is returned
// as far as it looks like a dossier; otherwise the dossier is empty, its Raw nil.
func (c *Client) UploadCV(ctx context.Context, dossierID string, cv CV) (Dossier, error) {
	return c.uploadCV(ctx, dossierID, func(r request) (request, error) { return withCV(r, cv) })
}

// UploadCVRaw does what UploadCV does with the PDF alone as the request's body,
// without a file name.
func (c *Client) UploadCVRaw(ctx context.Context, dossierID string, pdf []byte) (Dossier, error) {
	return c.uploadCV(ctx, dossierID, func(r request) (request, error) {
		r.body, r.contentType = pdf, "application/pdf"
		return r, CV{Data: pdf}.check()
	})
}

func (c *Client) uploadCV(ctx context.Context, dossierID string, attach func(request) (request, error)) (Dossier, error) {
	p, err := path("dossiers", dossierID, "cv")
	if err != nil {
		return Dossier{}, err
	}
	r, err := attach(request{method: http.MethodPost, path: p})
	if err != nil {
		return Dossier{}, err
	}
	a, err := c.do(ctx, r)
	if err != nil {
		return Dossier{}, err
	}
	var d Dossier
	if e, err := open(a.body, '{'); err == nil {
		_ = d.UnmarshalJSON(e.data)
	}
	return d, nil
}

// withCV turns r into a multipart form: the members of its JSON body, if it has
// one, and the file.
func withCV(r request, cv CV) (request, error) {
	if err := cv.check(); err != nil {
		return request{}, err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if err := writeFields(form, r.body); err != nil {
		return request{}, err
	}
	if cv.Filename == "" {
		cv.Filename = "cv.pdf"
	}
	file, err := form.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {multipart.FileContentDisposition("cv", cv.Filename)},
		"Content-Type":        {"application/pdf"},
	})
	if err != nil {
		return request{}, err
	}
	if _, err := file.Write(cv.Data); err != nil {
		return request{}, err
	}
	if err := form.Close(); err != nil {
		return request{}, err
	}
	r.body, r.contentType = body.Bytes(), form.FormDataContentType()
	return r, nil
}

func writeFields(form *multipart.Writer, object []byte) error {
	if object == nil {
		return nil
	}
	fields := map[string]any{}
	d := json.NewDecoder(bytes.NewReader(object))
	d.UseNumber() // an amount must not pass through a float64
	if err := d.Decode(&fields); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err := form.WriteField(name, fmt.Sprint(fields[name])); err != nil {
			return err
		}
	}
	return nil
}
