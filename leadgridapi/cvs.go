package leadgridapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"slices"
)

// MaxCV is the size of the largest CV LeadGrid takes. The reference says 10 MB;
// the client allows 10 MiB, and leaves the difference to LeadGrid.
const MaxCV = 10 << 20

// A CV is a PDF file.
type CV struct {
	Filename string // "cv.pdf" if empty
	Data     []byte
}

// check refuses what LeadGrid would refuse, before megabytes are sent.
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
// LeadGrid does not document the answer. If it holds an object, that is returned
// as a dossier; otherwise the dossier is empty, and its Raw nil.
func (c *Client) UploadCV(ctx context.Context, dossierID string, cv CV) (Dossier, error) {
	return c.uploadCV(ctx, newRequest(http.MethodPost, "dossiers", dossierID, "cv").withCV(cv))
}

// UploadCVRaw is UploadCV with the PDF itself as the request's body, without a
// file name.
func (c *Client) UploadCVRaw(ctx context.Context, dossierID string, pdf []byte) (Dossier, error) {
	r := newRequest(http.MethodPost, "dossiers", dossierID, "cv")
	if err := (CV{Data: pdf}).check(); err != nil {
		return Dossier{}, err
	}
	r.body, r.contentType = pdf, "application/pdf"
	return c.uploadCV(ctx, r)
}

func (c *Client) uploadCV(ctx context.Context, r request) (Dossier, error) {
	a, err := c.do(ctx, r)
	if err != nil {
		return Dossier{}, err
	}
	var d Dossier
	if data, _, _, err := open(a.body, '{'); err == nil {
		_ = d.UnmarshalJSON(data)
	}
	return d, nil
}

// withCV turns r into a multipart form: the members of its JSON body, if it has
// one, and the file.
func (r request) withCV(cv CV) request {
	if r.err == nil {
		r.err = cv.check()
	}
	if r.err != nil {
		return r
	}
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	if r.err = writeForm(w, r.body, cv); r.err != nil {
		return r
	}
	r.body, r.contentType = form.Bytes(), w.FormDataContentType()
	return r
}

func writeForm(w *multipart.Writer, object []byte, cv CV) error {
	fields := map[string]any{}
	if object != nil {
		d := json.NewDecoder(bytes.NewReader(object))
		d.UseNumber() // an amount must not pass through a float64
		if err := d.Decode(&fields); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if err := w.WriteField(name, fmt.Sprint(fields[name])); err != nil {
			return err
		}
	}
	file, err := w.CreatePart(textproto.MIMEHeader{
		"Content-Disposition": {multipart.FileContentDisposition("cv", cmp.Or(cv.Filename, "cv.pdf"))},
		"Content-Type":        {"application/pdf"},
	})
	if err != nil {
		return err
	}
	if _, err := file.Write(cv.Data); err != nil {
		return err
	}
	return w.Close()
}
