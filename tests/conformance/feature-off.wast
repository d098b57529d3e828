;;! component_model_async = false
;; Promise: a header takes a feature away, and what needs it is invalid then.
(assert_invalid
  (component (type (stream u8)))
  "requires the component model async feature")
