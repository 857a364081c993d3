-- All that ever gave a reading of the device its meaning, as far as anybody knows.
SELECT p.profile FROM iot_service.series s JOIN iot_service.series_profiles p USING (series_id) WHERE s.device_id = %(device_id)s
UNION
SELECT r.profile FROM iot_service.correction_revisions r WHERE r.device_id = %(device_id)s
UNION
SELECT c.was_profile FROM iot_service.corrections c WHERE c.device_id = %(device_id)s AND c.kind = 'decoder'
-- More have no meaning, but that a gateway invents them; a revision is a small number.
LIMIT 1000
