-- Under the newest rules of each device, whose row the transaction has locked.
INSERT INTO iot_service.correction_revisions (device_id, revision, number, profile)
SELECT w.device_id, COALESCE((SELECT max(r.revision) FROM iot_service.correction_revisions r WHERE r.device_id = w.device_id), 0)
                    + row_number() OVER (PARTITION BY w.device_id ORDER BY w.profile), w.number, w.profile
  FROM (SELECT DISTINCT k.device_id, k.profile,
               (SELECT max(c.number) FROM iot_service.corrections c WHERE c.device_id = k.device_id) AS number
          FROM unnest(%(device_ids)s::int[], %(profiles)s::text[]) AS k (device_id, profile)) w
 -- A gateway that invents profiles uses up no number that a later rule needs.
 WHERE (w.profile = '' OR (SELECT count(*) FROM iot_service.correction_revisions r WHERE r.device_id = w.device_id) < 30000)
   AND NOT EXISTS (SELECT FROM iot_service.correction_revisions r
                    WHERE r.device_id = w.device_id AND r.number = w.number AND r.profile = w.profile)
