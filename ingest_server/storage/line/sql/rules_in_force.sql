-- Either grows with each rule of its kind: so does the sum, and no two states of both share one.
SELECT COALESCE((SELECT max(number) FROM iot_service.erasures), 0)
       + COALESCE((SELECT max(number) FROM iot_service.corrections), 0)
